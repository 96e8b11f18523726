"""Long work that nobody watches says how far it is."""

import io
import re

import pytest
from rich.console import Console

from suites.harness.tuning import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def bars(clock: list[float], terminal: bool) -> tuple[progress.Progress, io.StringIO]:
    file = io.StringIO()
    shown = progress.progress_bars(Console(file=file, force_terminal=terminal, width=80))
    shown.get_time = lambda: clock[0]
    return shown, file


def test_a_log_gets_a_line_a_minute_with_an_estimate_of_epochs_that_take_minutes(clock: list[float]) -> None:
    shown, file = bars(clock, terminal=False)
    with shown:
        task = shown.add_task("epochs: kfac[inverse=gram], seed 0", total=10)
        for done in (1, 2, 3):
            clock[0] += 100
            shown.update(task, completed=done)
            clock[0] += 10
            shown.advance(task, 0)  # within the minute: nothing
        clock[0] += 50  # a minute since the last line
        shown.update(task, description="a name that is long " * 4)
        lines = file.getvalue().splitlines()
    assert lines.pop() == f"{'a name that is long ' * 4}".strip() + ": 3 of 10, 0:06:20 so far, 0:13:25 left"
    assert lines[0] == "epochs: kfac[inverse=gram], seed 0: 1 of 10, 0:01:40 so far, ? left"
    assert lines[1:] == [
        f"epochs: kfac[inverse=gram], seed 0: {done} of 10, {so_far} so far, {left} left"
        for done, so_far, left in ((2, "0:03:30", "0:14:40"), (3, "0:05:20", "0:12:50"))
    ]


def test_a_terminal_gets_bars_and_no_lines(clock: list[float]) -> None:
    shown, file = bars(clock, terminal=True)
    with shown:
        task = shown.add_task("epochs", total=10)
        clock[0] += 100
        shown.advance(task)
    assert " of 10" not in file.getvalue()
    assert "1/10" in file.getvalue()


def test_a_terminal_shows_name_bar_count_time_and_what_is_left(clock: list[float]) -> None:
    """Two of ten in 200 s; at the end nothing is left, and the time stays beside it. A name is no markup."""
    shown, file = bars(clock, terminal=True)
    with shown:
        task = shown.add_task("kfac[red]", total=10)
        for done in (1, 2, 10):
            clock[0] += 100
            shown.update(task, completed=done)
            shown.refresh()
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]", file.getvalue())]
    assert re.fullmatch(
        r"kfac\[red\] [━╸╺ ]+  ?2/10 0:03:20 left 0:13:20", next(one for one in lines if " 2/10" in one)
    )
    assert re.fullmatch(r"kfac\[red\] ━+ 10/10 0:05:00 left 0:00:00", lines[-2].rstrip())


def test_a_log_is_told_of_what_advanced(clock: list[float]) -> None:
    shown, file = bars(clock, terminal=False)
    with shown:
        task = shown.add_task("epochs", total=10)
        clock[0] += 100
        shown.advance(task, 3)
        line = file.getvalue().splitlines()[0]
    assert line == "epochs: 3 of 10, 0:01:40 so far, ? left"
