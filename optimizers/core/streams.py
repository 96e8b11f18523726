"""Independent pieces of work as branches of a CUDA graph: one alone would not fill a GPU."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(works: Iterable[Callable[[], T]], device: torch.device) -> list[T]:
    """The results of ``works``, none of which may need, or share anything computed lazily with, another.

    While a CUDA graph is captured each work goes to a stream of its own, which begins after all that was queued before
    and ends before all that is queued later. Else one follows the other: where every kernel is launched by the host,
    the launches are what takes the time.
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
    """Another for each stream that branches, since works may branch themselves."""
    return torch.cuda.Stream(main.device)
