"""Progress of long work, with the estimated time left: bars on a terminal, a line a minute in a log."""

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_AVERAGE_SECONDS = 3600  # of the mean speed in the estimate; an epoch may take minutes
_LINE_SECONDS = 60


def progress_bars(console: Console | None = None) -> Progress:
    """Bars for counted tasks: name, number done of all, time so far, time left."""
    return _Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        speed_estimate_period=_AVERAGE_SECONDS,
    )


class _Bars(Progress):
    """Bars that print a line a minute without a terminal, where rich shows bars only at the end."""

    _said = 0.0

    def start(self) -> None:
        self._said = time.monotonic()
        super().start()

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        if self.console.is_terminal or time.monotonic() < self._said + _LINE_SECONDS:
            return
        self._said, task = time.monotonic(), self._tasks[task_id]
        so_far, left = (
            "?" if seconds is None else timedelta(seconds=int(seconds))
            for seconds in (task.elapsed, task.time_remaining)
        )
        self.console.print(
            f"{task.description.strip()}: {task.completed:g} of {task.total:g}, {so_far} so far, {left} left",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
