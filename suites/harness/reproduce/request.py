"""What the command line asks of a result of the paper, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from suites.harness.records.journal import Journal
from suites.harness.training.parallel import Workers

_Scale = TypeVar("_Scale", bound=Any)  # a frozen dataclass

_ONE_PROCESS = Workers()
_OF_ALL = ("scale", "output", "device", "data_root")


@dataclass(frozen=True)
class Request:
    """The flags of ``kronbench reproduce``. None leaves a number to the scale."""

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
    workers: Workers = _ONE_PROCESS

    def only(self, result: str, *takes: str) -> None:
        """Refuse flags that a result does not take.

        Raises:
            ValueError: one line, if a flag is set that is not in ``takes``.
        """
        for field in fields(self):
            if field.name not in (*_OF_ALL, *takes) and getattr(self, field.name) != field.default:
                raise ValueError(f"{result} has no use for {field.name.replace('_', ' ')}")

    def flags(self, result: str, **resolved: object) -> dict[str, Any]:
        """All flags that make the result again, by name; ``resolved`` are those that the scale or the machine set."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "workers"}
        workers = {"jobs": self.workers.count, "backend": self.workers.backend, "address": self.workers.address}
        return {"name": result, **given, **workers, **resolved}


@dataclass(frozen=True)
class Reproduction:
    """What running a result gave; there is no text if no picture or table could be made."""

    records: Sequence[Journal[Any, Any]]
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
