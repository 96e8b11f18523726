"""A peer in a fresh process of its own. It takes steps when its parent asks."""

import itertools
import signal
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optimizers.core import FCNN
from suites.harness.measure.clock import timer
from suites.harness.measure.timing import block_of_steps
from suites.harness.memory.peak import WARM_UP, ProcessMemory
from suites.peers import Peer, Take

ANSWER_SECONDS = 300.0  # a peer that does not answer in this time has failed
_CONTEXT = get_context("forkserver")  # forks of a process that has imported torch, and nothing of a peer
_CONTEXT.set_forkserver_preload([__name__, "torch._dynamo"])


@dataclass(frozen=True)
class Work:
    """A network, by its sizes, and the batches that it takes in turn. The network has their dtype."""

    sizes: tuple[int, ...]
    device: str
    batches: Sequence[tuple[np.ndarray, np.ndarray]]

    def build(self, make: Callable[[FCNN, float], Take], lr: float) -> tuple[FCNN, Callable[[], object]]:
        """The network, and a function that takes its next step."""
        batches = [tuple(torch.from_numpy(part).to(self.device) for part in batch) for batch in self.batches]
        network, turns = FCNN(self.sizes, device=self.device, dtype=batches[0][0].dtype), itertools.cycle(batches)
        take = make(network, lr)
        return network, lambda: take(*next(turns))

    def direction(self, make: Callable[[FCNN, float], Take]) -> list[Tensor]:
        """The first step, over the learning rate: a tensor for each parameter."""
        network, step = self.build(make, lr=1.0)
        before = [parameter.detach().clone() for parameter in network.parameters()]
        step()
        return [after.detach() - own for after, own in zip(network.parameters(), before, strict=True)]


def distance(peer: Peer, like: Peer, work: Work) -> float:
    """``||theirs - ours|| / ||ours||`` of the directions: over those that must be equal, or over all."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # some libraries make tensors of the default dtype
    try:
        theirs, ours = work.direction(peer.make), work.direction(like.make)
    finally:
        torch.set_default_dtype(before)
    kept = slice(None, None, 2) if peer.equal == "weights" else slice(None)
    return relative_error(theirs[kept], ours[kept])


def relative_error(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> float:
    """The relative error in the 2-norm of all entries."""
    apart = sum((a - b).square().sum() for a, b in zip(theirs, ours, strict=True))
    return float((apart / sum(b.square().sum() for b in ours)) ** 0.5)


class _Here:
    """The work of a peer, inside its process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def distance(self, like: Peer, work: Work) -> float:
        return distance(self._peer, like, work)

    def begin(self, work: Work) -> None:
        """Take a small step, so that libraries start threads and pools. Memory counts from there."""
        sizes, batch = WARM_UP
        random = np.random.default_rng(0)
        noise = random.random((batch, sizes[0]), np.float32), random.integers(sizes[-1], size=batch)
        Work(sizes, work.device, [noise]).build(self._peer.make, lr=1e-3)[1]()
        self._memory = ProcessMemory(work.device, None)
        _, step = work.build(self._peer.make, lr=1e-3)
        self._block = partial(block_of_steps, step, timer(work.device, waits=False))

    def block(self, count: int) -> dict[str, float]:
        return self._block(count)

    def peak_bytes(self) -> int:
        return self._memory.peak_bytes()


def _serve(pipe: Connection, peer: Peer, threads: int) -> None:
    """Answer requests until the parent is gone, or closes the pipe."""
    torch.set_num_threads(threads)
    torch.compiler.set_stance("force_eager")  # compiling takes minutes for each network
    warnings.simplefilter("ignore")  # of the libraries
    torch.manual_seed(0)
    here = _Here(peer)
    with suppress(EOFError, BrokenPipeError):
        while True:
            method, arguments = pipe.recv()
            try:
                answer = getattr(here, method)(*arguments), ""
            except Exception as error:
                answer = None, " ".join(f"{type(error).__name__}: {error}".split())
            pipe.send(answer)


class OwnProcess:
    """The process of a peer, as its parent sees it.

    reason: why it failed. A peer that failed gets no more requests.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer, self.reason = peer, ""
        self._pipe, theirs = Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, peer, torch.get_num_threads()), daemon=True)
        self._process.start()
        theirs.close()

    def tell(self, method: str, *arguments: object) -> None:
        """Send a request, and do not wait."""
        if not self.reason:
            try:
                self._pipe.send((method, arguments))
            except OSError:
                self._ended()

    def answer(self) -> Any:
        """The answer to the last request; None if the peer failed."""
        result = None
        if not self.reason:
            try:
                if self._pipe.poll(ANSWER_SECONDS):
                    result, self.reason = self._pipe.recv()
                else:
                    self.reason = f"no answer within {ANSWER_SECONDS:g} seconds"
            except (EOFError, OSError):
                self._ended()
        return result

    def ask(self, method: str, *arguments: object) -> Any:
        self.tell(method, *arguments)
        return self.answer()

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def _ended(self) -> None:
        self._process.join()
        code = self._process.exitcode or 0
        self.reason = f"its process ended: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
