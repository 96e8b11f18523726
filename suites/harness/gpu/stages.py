"""A stage of a run that has so much time and no more."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.harness.records.record import RecordWriter, read

GRAPH = "CUDA graph"  # the name of a check


class Skipped(Exception):
    """A stage, or a part of one, cannot run here; the message says why."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a stage writes its rows, on which device it runs, and until when, by ``time.monotonic``."""

    record: RecordWriter
    folder: Path
    device: str
    deadline: float
    data_root: Path | None
    on_row: Callable[[str], None]

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.deadline - time.monotonic())

    def out_of_time(self) -> bool:
        return self.left == 0

    @property
    def captured(self) -> set[str]:
        """The optimizers whose steps were found to work in a CUDA graph."""
        path = self.folder / "correctness.jsonl"
        rows = read(path).points if path.exists() else []
        return {row["optimizer"] for row in rows if row["check"] == GRAPH and row["status"] == "ok"}

    def row(self, text: str, **values: Any) -> None:
        """Write a row; ``text`` says in a few words what it is about."""
        self.record.point(**values)
        self.on_row(text)
