"""Limits for optimizers that others wrote: on the time of a step, and on memory."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType

import psutil

SHARE = 0.9  # of the available memory; with more, the machine would swap or kill
_GROUPS = (  # limit and use of the control group, version 2 and version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class TooLong(Exception):
    """Something took longer than it may."""


@contextmanager
def limited(seconds: float, what: str = "a step took") -> Iterator[Callable[[], object]]:
    """Raise :class:`TooLong` when ``seconds`` have passed. Each call of the function that it gives starts them again.

    Python code and waiting are interrupted; a single operation of torch that never ends is not. What torch imports with
    its first optimizer comes before. There is no limit in threads other than the main one, and on systems without
    ``setitimer``.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield lambda: None
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"{what} more than {seconds:g} seconds")

    import_module("torch._dynamo")  # takes seconds, and stays broken if it is interrupted
    before = signal.signal(signal.SIGALRM, ring)
    begin = partial(signal.setitimer, signal.ITIMER_REAL, seconds)
    begin()
    try:
        yield begin
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def available_bytes() -> int:
    """Memory that a process can take without swapping: the machine's, or what is left of its control group."""
    left = [psutil.virtual_memory().available]
    for limit, used in _GROUPS:
        with suppress(OSError, ValueError):  # there is no such group, or its limit is "max"
            left.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(1, min(left))


@contextmanager
def within_memory(share: float = SHARE) -> Iterator[None]:
    """Inside, an allocation beyond this share of the memory that is available now fails; else the system would kill.

    There is no limit in threads other than the main one, on systems without such limits, and on the memory of a GPU.
    """
    try:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("the limit is that of the process")
        before = limit_data(psutil.Process().memory_info().data + int(share * available_bytes()))
    except (ImportError, AttributeError, OSError):
        yield
        return
    try:
        yield
    finally:
        limit_data(before)


def limit_data(limit: int) -> int:
    """Limit the bytes of data of this process (``RLIMIT_DATA``); returns the old limit."""
    import resource  # not on every system

    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return before
