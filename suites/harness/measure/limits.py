"""Limits for what others wrote: a step that hangs, and memory that the machine does not have."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

import psutil

SHARE = 0.9  # of the memory that is available: beyond it the machine would kill or swap
_GROUPS = (  # limit and use of the control group, version 2 and version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class TooLong(Exception):
    """Something took longer than it may."""


@contextmanager
def limited(seconds: float, what: str = "a step took") -> Iterator[Callable[[], object]]:
    """Raise :class:`TooLong` once ``seconds`` pass; each call of the function that it gives begins them anew.

    Python code is interrupted, and what waits; a single operation of torch that never ends is not. Threads other than
    the main one, and systems without ``setitimer``, have no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield lambda: None
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"{what} more than {seconds:g} seconds")

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
    """An allocation beyond this share of the memory that is available now fails, where the system would kill.

    Nothing is limited in threads other than the main one, and where the system has no such limit. Memory of a GPU has
    its own.
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
    """Set how many bytes of data this process may have (``RLIMIT_DATA``); returns the limit of before."""
    import resource  # not everywhere: other commands do without

    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return before
