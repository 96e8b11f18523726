"""Files beside records, as types: memory, step times and the measurements of pytest-benchmark."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from suites.harness.records.facts import Amount, Count, Environment, Size

T = TypeVar("T")

Positive = Annotated[float, Meta(gt=0)]
Blocks = Annotated[list[Positive], Meta(min_length=1)]


@dataclass(frozen=True)
class Stats:
    """Seconds of one benchmark."""

    median: Positive
    q1: Positive
    q3: Positive
    rounds: Count


@dataclass(frozen=True)
class Extra:
    """The part that was timed, and the width of its layer."""

    solver: str | None = None
    curvature: str | None = None
    width: Positive | None = None


@dataclass(frozen=True)
class Bench:
    """A benchmark of pytest-benchmark."""

    name: str
    stats: Stats
    group: str | None = None
    extra_info: Extra = field(default_factory=Extra)


@dataclass(frozen=True)
class MachineInfo:
    """The part of pytest-benchmark's facts about the machine that is read: the environment."""

    kronbench: Environment | None = None


@dataclass(frozen=True)
class Benches:
    """A file of pytest-benchmark; another file has no benchmarks."""

    benchmarks: tuple[Bench, ...] = ()
    machine_info: MachineInfo = field(default_factory=MachineInfo)


@dataclass(frozen=True)
class Predicted:
    """The prediction of a formula."""

    peak_bytes: Count


@dataclass(frozen=True)
class PeakMeasured:
    """Memory and time of a few steps in a fresh process, see :mod:`suites.harness.memory.peak`.

    ``status``: ``finished``, ``out of memory``, or ``failed`` with the ``reason``. ``peak_bytes``: the most that was
    held at once, also if the steps ended early. ``step_seconds``: the median of all steps but the first.
    ``asked_bytes``: size of the allocation that failed. ``budget_bytes``: the budget that was enforced. ``fell_back``:
    whether ``inverse="auto"`` went from ``factor`` to ``rank_one``. ``warnings``: those of the optimizer.
    """

    status: str
    peak_bytes: Count | None = None
    step_seconds: Amount | None = None
    asked_bytes: Count | None = None
    budget_bytes: Count | None = None
    fell_back: bool = False
    warnings: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class MemoryRow:
    """One optimizer."""

    optimizer: str
    predicted: Predicted | None
    measured: PeakMeasured


@dataclass(frozen=True)
class MemoryCase:
    """The network and batch of all rows."""

    network: tuple[Size, ...]
    batch_size: Size


@dataclass(frozen=True)
class MemoryFile:
    """A file of ``kronbench memory``."""

    case: MemoryCase
    environment: Environment
    rows: tuple[MemoryRow, ...]


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as a type.

    Raises:
        ValueError: one line, if it cannot be read, or does not fit the type.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_step_seconds(path: Path) -> dict[str, list[list[float]]]:
    """Seconds of interleaved steps by optimizer: for each sitting, one number a block.

    In an old file each number is a sitting of one block.

    Raises:
        ValueError: as :func:`read_json`, and if optimizers have different numbers of sittings or blocks.
    """
    found: dict[str, list[list[float]]] = {
        name: [one if isinstance(one, list) else [one] for one in sittings]
        for name, sittings in read_json(path, dict[str, list[Blocks | Positive]]).items()
    }
    counts = {tuple(map(len, sittings)) for sittings in found.values()}
    if len(counts) > 1:
        raise ValueError(f"{path}: expected as many blocks of each optimizer in each sitting, found {sorted(counts)}")
    return found


def checked_flags(path: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """The flags of a file, checked as far as pages use them.

    Raises:
        ValueError: one line, if a target is no number, or the optimizers are no texts.
    """
    target, optimizers = flags.get("target", 1), flags.get("optimizer", [])
    if not all(_is_number(one) for one in (target if isinstance(target, list) and target else [target])):
        raise ValueError(f"config {path}: target must be a number, or a list of them, got {target!r}")
    if not isinstance(optimizers, list) or not all(isinstance(one, str) for one in optimizers):
        raise ValueError(f"config {path}: optimizer must be a list of texts, got {optimizers!r}")
    return flags


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
