"""Runs that take turns in one process: each goes on for a few steps, then the next one does.

A run is a generator: it yields where another run may go on, and returns its result. The same generator runs alone or
with others, so its numbers are the same, bit for bit. On a GPU each run has a stream of its own, and their kernels run
side by side.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeAlias, TypeVar

import torch

T = TypeVar("T")
P = ParamSpec("P")

Turns: TypeAlias = Generator[None, None, T]


def in_one_go(work: Callable[P, Turns[T]]) -> Callable[P, T]:
    """The same work from begin to end, without turns of others."""

    @wraps(work)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        ((_, result),) = at_once([work(*args, **kwargs)])
        return result

    return whole


def at_once(works: Iterable[Turns[T]], most: int = 1, device: str = "cpu") -> Iterator[tuple[int, T]]:
    """Let ``most`` works take turns; when one ends, the next one starts. Yields the number and the result of each.

    An exception of one ends all: the others are closed.
    """
    left = enumerate(works)
    streams = [torch.cuda.Stream() if most > 1 and device == "cuda" else None for _ in range(most)]
    under_way: deque[tuple[int, Turns[T], _Own]] = deque()
    try:
        while True:
            while streams and (begun := next(left, None)):
                under_way.append((*begun, _Own(streams.pop())))
            if not under_way:
                return
            number, work, own = under_way[0]
            try:
                with own.turn():
                    next(work)
                under_way.rotate(-1)
            except StopIteration as end:
                under_way.popleft()
                streams.append(own.stream)
                yield number, end.value
    finally:
        for _, work, own in under_way:
            with own.turn():
                work.close()


class _Own:
    """The state that a work does not share: torch's random numbers, and its stream."""

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        self.stream = stream
        self._random = torch.get_rng_state()
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())  # the data may be on their way
            # a generator, not a state: setting a state would change the generator that other runs' graphs read
            self._on_gpu = torch.Generator("cuda")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A turn of the work."""
        torch.set_rng_state(self._random)
        try:
            if self.stream is None:
                yield
                return
            of_gpu = torch.cuda.default_generators[torch.cuda.current_device()]
            shared = of_gpu.graphsafe_get_state()
            of_gpu.graphsafe_set_state(self._on_gpu)
            try:
                with torch.cuda.stream(self.stream):
                    yield
            finally:
                of_gpu.graphsafe_set_state(shared)
        finally:
            self._random = torch.get_rng_state()
