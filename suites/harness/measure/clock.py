"""The clocks: wall time with the device synchronized at both ends, and the phases of a step."""

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock


class Stopwatch:
    """Adds up the seconds spent inside ``with stopwatch:``, starting at ``seconds``."""

    def __init__(self, device: torch.device | str, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._device = torch.device(device)

    def __enter__(self) -> "Stopwatch":
        self._started = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += self._now() - self._started

    def _now(self) -> float:
        if self._device.type == "cuda":  # only the stream of this run: other runs may have theirs
            torch.cuda.current_stream(self._device).synchronize()
        return time.perf_counter()


class PhaseClock:
    """Seconds of each step by phase; pass ``mark`` to :meth:`suites.harness.measure.step.Step.watch`.

    On CUDA a mark is an event on the stream, and nothing waits for the device until :meth:`drain`. In a CUDA graph,
    each replay records the events again, so only the times of the last replay are known.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._steps: list[list[tuple[str | None, Any]]] = [[]]
        self._replayed: list[tuple[str | None, Any]] = []

    def mark(self, phase: str | None) -> None:
        """Begin a phase; None ends the step."""
        if self._cuda and torch.cuda.is_current_stream_capturing():
            event = torch.cuda.Event(enable_timing=True, external=True)
            event.record()
            self._replayed.append((phase, event))
            return
        if self._cuda:
            now = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self._steps[-1].append((phase, now))
        if phase is None:
            self._steps.append([])

    def drain(self) -> dict[str, list[float]]:
        """Seconds by phase: one number for each whole step since the last call, 0 if the step had no such phase.

        For replays of a CUDA graph, one number: that of the last replay.
        """
        done, self._steps = self._steps[:-1], self._steps[-1:]
        if self._cuda:
            torch.cuda.current_stream().synchronize()
        totals: list[Counter[str]] = []
        for marks in [*done, self._replayed]:
            total: Counter[str] = Counter()
            for (phase, begin), (_, end) in pairwise(marks):
                assert phase is not None, "a step ends once"
                total[phase] += begin.elapsed_time(end) / 1000 if self._cuda else end - begin
            if marks:
                totals.append(total)
        return {phase: [total[phase] for total in totals] for phase in sorted({p for total in totals for p in total})}


def timer(device: torch.device | str, waits: bool = True) -> Callable[[], Any]:
    """A function that returns the time; the difference of two results is in seconds. On CUDA it does not wait for the
    device.

    Args:
        waits: False leaves out the time in which this thread waits for a CPU core, see :func:`seconds_on_a_core`.
    """
    if torch.device(device).type == "cuda":
        return DeviceTime
    return time.perf_counter if waits else seconds_on_a_core


def seconds_on_a_core() -> float:
    """The clock, without the time in which this thread waited for a core that others had. A sleep counts."""
    while True:
        before, now = seconds_waited(), time.perf_counter()
        if seconds_waited() == before:  # else there was a wait, before or after the clock was read
            return now - before


def seconds_waited() -> float:
    """The time in which this thread waited for a core, from Linux's scheduler; 0 on other systems."""
    scheduled = _scheduled(threading.get_native_id())
    return 0.0 if scheduled is None else int(os.pread(scheduled, 99, 0).split()[1]) / 1e9


@cache
def _scheduled(thread: int) -> int | None:
    """Linux's file with a thread's nanoseconds on a core, those of waiting, and its turns; None where there is none. It
    stays open, since opening it takes as long as a short step.
    """
    try:
        return os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY)
    except OSError:
        return None


class DeviceTime:
    """A moment on a CUDA stream. The difference of two is in seconds, and waits for the later one."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)
        self._event.record()

    def __sub__(self, earlier: "DeviceTime") -> float:
        self._event.synchronize()
        return earlier._event.elapsed_time(self._event) / 1000


@contextmanager
def gpu_alone(device: torch.device | str) -> Iterator[None]:
    """Wait until no other timed work of kronbench, from any process, runs on this GPU. A CPU is not locked."""
    if torch.device(device).type != "cuda":
        yield
        return
    name = f"kronbench-{torch.cuda.get_device_properties(device).uuid}.lock"
    # a singleton, so that a run that holds the lock can time steps
    with FileLock(Path(tempfile.gettempdir()) / name, mode=0o666, is_singleton=True):
        yield
