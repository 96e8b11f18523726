"""A stage of a run with a time limit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from suites.harness.records.journal import JournalWriter
from suites.harness.records.measured import Check, Row, read_stage

R = TypeVar("R", bound=Row)

GRAPH = "CUDA graph"  # the name of a check


class Skipped(Exception):
    """A stage, or a part of one, cannot run here; the message says why."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage: its record, its device, and the end of its time (``time.monotonic``)."""

    record: JournalWriter
    folder: Path
    device: str
    deadline: float
    data_root: Path | None
    on_row: Callable[[str], None]

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(0.0, self.deadline - time.monotonic())

    def out_of_time(self) -> bool:
        return self.left == 0

    @property
    def captured(self) -> set[str]:
        """The optimizers that the correctness stage could capture in a CUDA graph."""
        path = self.folder / "correctness.jsonl"
        rows = read_stage(path, Check).points if path.exists() else []
        return {row.optimizer for row in rows if row.check == GRAPH and row.status == "ok"}

    def row(self, text: str, row: Row) -> None:
        """Write a row; ``text`` describes it in a few words."""
        self.record.point(row)
        self.on_row(text)

    def measure(self, text: str, row: R, measure: Callable[[R], Sequence[R]], failure: str = "failed") -> None:
        """Write the rows that ``measure`` returns, or the row with the reason: ``skipped``, or ``failure``."""
        try:
            if self.out_of_time():
                raise Skipped("out of time")
            rows = measure(row)
        except Skipped as reason:
            rows = [replace(row, status="skipped", reason=str(reason))]
        except Exception as error:
            rows = [replace(row, status=failure, reason=f"{type(error).__name__}: {error}")]
        for one in rows:
            self.row(text, one)
