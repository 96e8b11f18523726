"""Steps captured in a CUDA graph: the host launches a whole step at once instead of each kernel."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from suites.harness.measure.step import Step

WARM_UP_STEPS = 3


class CapturedStep(Step):
    """A step that runs as usual a few times, is then captured, and replayed from then on, batch after batch.

    Every call is one training step; the capture itself takes none. If the optimizer has the option ``capturable``, it
    is set, and the learning rate is put on the device. State and ``solutions`` of the optimizer stay at the same
    memory, which each step overwrites.

    Raises:
        RuntimeError: from the call that captures, if the step cannot be captured.
    """

    def __init__(self, step: Step) -> None:
        super().__init__(step.network, step.optimizer, step.criterion, step.batches)
        self._step = step
        self._batch: tuple[Tensor, Tensor] | None = None  # what the graph works on
        self._given: tuple[Tensor, Tensor] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._taken = 0
        for group in step.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
                group["lr"] = group["params"][0].new_tensor(group["lr"])

    def watch(self, on_phase: Callable[[str | None], None]) -> None:
        """As for :class:`Step`. ``on_phase`` is also called during the capture, and never in a replay."""
        self._step.watch(on_phase)

    def __call__(self) -> None:
        self._load(next(self.batches))
        if self._graph is not None:
            self._graph.replay()
        elif self._taken < WARM_UP_STEPS:
            self._taken += 1
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._step()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
            graph.replay()
            self._graph = graph

    def _load(self, given: tuple[Tensor, Tensor]) -> None:
        """Copy a batch to where the graph reads it, unless it is there already."""
        if self._batch is None:
            inputs, labels = self._batch = given[0].clone(), given[1].clone()
            self._step.batches = itertools.repeat((inputs, labels))
        elif given is not self._given:
            for target, source in zip(self._batch, given, strict=True):
                target.copy_(source)
        self._given = given
