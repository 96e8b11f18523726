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
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
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


@cache
def _branch(main: torch.cuda.Stream, number: int) -> torch.cuda.Stream:
    """A stream for the work of this number. Each stream has its own, since works may branch again."""
    return torch.cuda.Stream(main.device)
