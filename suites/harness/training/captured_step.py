"""Steps captured in a CUDA graph: the host launches a whole step at once, where it would else launch each kernel."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from suites.harness.measure.step import Step

WARM_UP_STEPS = 3


class CapturedStep(Step):
    """A step that is taken as it is a few times, then captured, and replayed ever after, on batch after batch.

    Every call is one step of training, the capture no step more. ``capturable`` is set, and the learning rate put on
    the device, where the optimizer knows it. What the step made last (its optimizer's state and ``solutions``) is
    where it was in the step before.

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
        """As of a :class:`Step`; while it is captured ``on_phase`` is called too, and never in a replay."""
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
        """Put a batch where the graph looks for it, unless it is there."""
        if self._batch is None:
            inputs, labels = self._batch = given[0].clone(), given[1].clone()
            self._step.batches = itertools.repeat((inputs, labels))
        elif given is not self._given:
            for target, source in zip(self._batch, given, strict=True):
                target.copy_(source)
        self._given = given
