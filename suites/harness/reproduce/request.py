"""A request for a result of the paper, from the command line, and its outcome."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from suites.harness.names import pick
from suites.harness.records.config import write_config
from suites.harness.records.journal import Journal
from suites.harness.records.record import write_atomically
from suites.harness.show.table import Table, comma_separated
from suites.harness.training.parallel import Workers

_ONE_PROCESS = Workers(at_once=None)
_OF_ALL = ("scale", "output", "device", "data_root", "resume")


@dataclass(frozen=True)
class Scale:
    """How much of a result is computed. Subclasses have the numbers."""

    name: str


S = TypeVar("S", bound=Scale)


@dataclass(frozen=True)
class Reproduction:
    """The outcome of a result. ``text`` is None if no picture or table could be made."""

    records: Sequence[Journal[Any, Any]]
    text: str | None = None


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

    def scaled(self, result: str, scales: Mapping[str, S], *takes: str) -> S:
        """The scale of a result, with the numbers of the request in place of its own.

        Raises:
            ValueError: one line, if there is no such scale, a number is below 1, or the request has a flag that is
                neither in ``takes`` nor a number of the scale.
        """
        scale = pick("scale", self.scale, scales)
        asked = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        numbers = {field.name for field in fields(scale)} - {"name"}
        for name, value in asked.items():
            if name not in (*_OF_ALL, *takes, *numbers):
                words = "runs at a time" if name == "workers" else _words(name)
                raise ValueError(f"{result} has no use for {words}")
            if name in numbers and value < 1:
                raise ValueError(f"{_words(name)} must be 1 or more, got {value}")
        return replace(scale, **{name: value for name, value in asked.items() if name in numbers})

    def write(
        self,
        result: str,
        scale: Scale,
        text: str,
        tables: Mapping[str, Table],
        page: Path,
        config: str = "config",
        **resolved: object,
    ) -> None:
        """Write the page of a result, and beside it its tables as CSV and the flags that make it again.

        Args:
            scale: its numbers are flags.
            tables: by the stem of their files.
            config: the stem of the file of flags.
            resolved: flags that were chosen for this machine.
        """
        for stem, table in tables.items():
            write_atomically(page.with_name(f"{stem}.csv"), comma_separated(table))
        write_atomically(page, text)
        flags = {**vars(self), **resolved}
        flags |= {name: value for name, value in vars(scale).items() if name in flags}
        workers = flags.pop("workers")
        flags |= {"jobs": workers.count, **{name: getattr(workers, name) for name in ("backend", "address", "at_once")}}
        write_config(page.with_name(f"{config}.toml"), "reproduce", {"name": result, **flags})


class Result(Protocol):
    """A table or a figure of the paper."""

    @property
    def name(self) -> str: ...

    @property
    def shows(self) -> str:
        """What it shows, in a line."""
        ...

    @property
    def costs(self) -> Mapping[str, str]:
        """What it costs, by scale."""
        ...

    def prepare(self, request: Request) -> Callable[[], Reproduction]:
        """Check the request and load the data; returns a function that does the work.

        Raises:
            ValueError: one line, if the request or the data are bad.
        """
        ...


def _words(name: str) -> str:
    return name.replace("_", " ")
