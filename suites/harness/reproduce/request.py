"""What the command line asks of a result of the paper, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from suites.harness.records.record import Record
from suites.harness.training.parallel import Workers

_Scale = TypeVar("_Scale", bound=Any)  # a frozen dataclass

_ALONE = Workers()
_OF_ALL = ("scale", "output", "device", "data_root")


@dataclass(frozen=True)
class Request:
    """Which scale, on what, and where to; None is the result's own."""

    scale: str
    output: Path
    device: str = "auto"
    data_root: Path | None = None
    seed: int | None = None
    seeds: int | None = None
    epochs: int | None = None
    iterates: int | None = None
    steps_between: int | None = None
    images: int | None = None
    tuned: Path | None = None
    resume: bool = True
    workers: Workers = _ALONE

    def only(self, result: str, *takes: str) -> None:
        """Refuse what a result has no use for.

        Raises:
            ValueError: one line, if more is asked for than ``takes``.
        """
        for field in fields(self):
            if field.name not in (*_OF_ALL, *takes) and getattr(self, field.name) != field.default:
                raise ValueError(f"{result} has no use for {field.name.replace('_', ' ')}")


@dataclass(frozen=True)
class Reproduction:
    """What running a result gave; there is no text where no picture or table could be made."""

    records: Sequence[Record]
    text: str | None = None


def adapted(scale: _Scale, **changes: int | None) -> _Scale:
    """A scale with other numbers, where they are not None.

    Raises:
        ValueError: if one is below 1.
    """
    chosen = {name: value for name, value in changes.items() if value is not None}
    for name, value in chosen.items():
        if value < 1:
            raise ValueError(f"{name.replace('_', ' ')} must be 1 or more, got {value}")
    return replace(scale, **chosen)
