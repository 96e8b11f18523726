"""Limits for what others wrote: a step that hangs, and memory that the machine does not have."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType


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
