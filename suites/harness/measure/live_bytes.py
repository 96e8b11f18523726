"""Memory of an optimizer: what it keeps between steps, and the peak within a step."""

import gc
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from suites.harness.measure.step import EveryOperation, Step


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the tensors in the optimizer's state."""
    tensors = {leaf for leaf in tree_leaves(dict(optimizer.state)) if isinstance(leaf, Tensor)}
    return sum(tensor.nbytes for tensor in tensors)


def peak_state_bytes(step: Step) -> int:
    """The peak of the optimizer's bytes during a step: its state, and what the step forms beside parameters and tape
    (curvature, factors, directions).

    Runs one step. Counts whole tensors as operations return them; scratch space inside a library call is not seen.
    """
    tape, kept = step.record(), state_bytes(step.optimizer)
    with LiveBytes() as live:
        step.update(tape)
    return live.peak + kept  # live.peak includes the state that this step made


def phase_bytes(step: Step) -> dict[str, int]:
    """For each phase of a step, the peak of the bytes that were allocated since the step began.

    Runs one step. Counts whole tensors as operations return them; scratch space inside a library call is not seen.
    """
    peaks: dict[str, int] = {}
    now: str | None = None

    def mark(phase: str | None) -> None:
        nonlocal now
        if now is not None:
            peaks[now] = max(peaks.get(now, 0), live.peak)
        now, live.peak = phase, live.current

    step.watch(mark)
    with LiveBytes() as live:
        step()
    return peaks


def kept_bytes(step: Step) -> int:
    """Bytes alive after four steps on one batch: the state, and whatever else outlives its step.

    A leaked tensor shows up to the byte, whether it leaks once or in every step.
    """
    step.repeat_batch()
    before = state_bytes(step.optimizer)
    with LiveBytes() as live:
        for _ in range(4):
            step()
    gc.collect()  # a cycle of references is no leak
    return before + live.current


class LiveBytes(EveryOperation):
    """A mode that counts the bytes of storages allocated under it, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        self.current += storage.nbytes()
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self.current -= size
