"""What the command line asks of a result of the paper, and what comes back."""

from dataclasses import dataclass
from pathlib import Path

from suites.harness.records import Record


@dataclass(frozen=True)
class Request:
    """Which scale, on what, and where to; a result refuses what it has no use for. None: its own."""

    scale: str
    output: Path
    device: str = "auto"
    data_root: Path | None = None
    seed: int = 0
    iterates: int | None = None
    steps_between: int | None = None
    images: int | None = None


@dataclass(frozen=True)
class Reproduction:
    """What running a result gave; there is no text where the run did not finish."""

    record: Record
    text: str | None = None
