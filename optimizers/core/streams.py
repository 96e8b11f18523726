"""Independent pieces of work as branches of a CUDA graph. A single one does not fill a GPU."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(works: Iterable[Callable[[], T]], device: torch.device) -> list[T]:
    """The results of ``works``. They must be independent, and share nothing that is computed lazily.

    While a CUDA graph is captured, each work runs on a stream of its own, after all that was queued before and before
    all that is queued later. Otherwise one follows the other: without a graph the launches take the time, and streams
    do not help.
    """
    if not is_captured(device):
        return [work() for work in works]
    main, results = torch.cuda.current_stream(device), []
    begin = main.record_event()
    for number, work in enumerate(works):
        branch = _branch(main, number)
        branch.wait_event(begin)
        with torch.cuda.stream(branch):
            results.append(work())
        main.wait_stream(branch)
    return results


def begun(work: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """Begin a work whose result is needed later; the function that is returned gives it.

    While a CUDA graph is captured, the work is a branch, and only a call of the function waits for it. It must be
    called.
    """
    if not is_captured(device):
        result = work()
        return lambda: result
    main = torch.cuda.current_stream(device)
    branch = _branch(main, -1)
    branch.wait_stream(main)
    with torch.cuda.stream(branch):
        result = work()
    end = branch.record_event()

    def ask() -> T:
        torch.cuda.current_stream(device).wait_event(end)
        return result

    return ask


def is_captured(device: torch.device) -> bool:
    """Whether what is done now goes into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@cache
def _branch(main: torch.cuda.Stream, number: int) -> torch.cuda.Stream:
    """The stream of a work, by its number. Each main stream has its own, since works may branch again."""
    return torch.cuda.Stream(main.device)
