"""One training step of any optimizer, and its phases: from a tape, from gradients, or from a closure.

Captured in a CUDA graph, the host launches a whole step at once instead of each kernel.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers.core import FCNN, Criterion, Tape, TapeOptimizer
from suites.harness.measure.contract import takes_closure

WARM_UP_STEPS = 3


@dataclass(eq=False)
class Step:
    """A network, its optimizer, and the batches to come: each call takes one training step.

    takes_closure: whether the optimizer's ``step`` takes a closure.
    passes: counts of passes beside the one that each step records: ``evaluations`` of a closure (loss and gradients),
        and those of :attr:`optimizers.core.Tape.passes`.
    """

    network: FCNN
    optimizer: torch.optim.Optimizer
    criterion: Criterion
    batches: Iterator[tuple[Tensor, Tensor]]
    _on_phase: Callable[[str | None], None] = lambda phase: None
    takes_closure: bool = field(init=False)
    passes: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        self.takes_closure = not isinstance(self.optimizer, TapeOptimizer) and takes_closure(self.optimizer)
        self._switch("train")

    def watch(self, on_phase: Callable[[str | None], None]) -> None:
        """Call ``on_phase`` at the start of each phase with its name, one of ``PHASES``, and after a step with None."""
        self._on_phase = on_phase
        if isinstance(self.optimizer, TapeOptimizer):
            self.optimizer.on_phase = on_phase

    def repeat_batch(self) -> "Step":
        """Use the next batch for every step from now on; returns the step itself."""
        self.batches = itertools.repeat(next(self.batches))
        return self

    def record(self) -> Tape:
        """Forward and backward on the next batch."""
        batch = next(self.batches)
        self._on_phase("forward_backward")
        return self.network.record(self.criterion, *batch)

    def update(self, tape: Tape) -> None:
        """Step from the tape. An optimizer that takes no tape finds the gradients in ``param.grad``."""
        if isinstance(self.optimizer, TapeOptimizer):
            self._on_phase("update")
            self.optimizer.step(tape)
            self.passes.update(tape.passes)
        else:
            tape.write_gradients()
            self._on_phase("update")
            if self.takes_closure:
                self.optimizer.step(self._closure(tape))
            else:
                self.optimizer.step()
        self._on_phase(None)

    def __call__(self) -> None:
        self.update(self.record())

    @contextmanager
    def evaluating(self) -> Iterator[FCNN]:
        """The network for evaluation. An optimizer with ``eval()`` and ``train()`` is in evaluation meanwhile."""
        self._switch("eval")
        try:
            yield self.network
        finally:
            self._switch("train")

    def _switch(self, mode: str) -> None:
        switch = getattr(self.optimizer, mode, None)
        if callable(switch):
            switch()

    def _closure(self, tape: Tape) -> Callable[[], Any]:
        """A function that computes loss and gradients at the current parameters. At first they are on the tape."""
        inputs, labels, recorded = tape.layers[0].input, tape.labels, self._versions()

        def closure() -> Tensor:
            nonlocal recorded, tape
            if recorded != self._versions():
                self._on_phase("forward_backward")
                tape = self.network.record(self.criterion, inputs, labels)
                self.passes["evaluations"] += 1
            tape.write_gradients()
            self._on_phase("update")
            recorded = []
            return tape.loss

        return closure

    def _versions(self) -> list[int]:
        """Version numbers, which change whenever a parameter or gradient does."""
        both = (tensor for parameter in self.network.parameters() for tensor in (parameter, parameter.grad))
        return [tensor._version for tensor in both if tensor is not None]


class CapturedStep(Step):
    """A step that runs as usual a few times, is then captured in a CUDA graph, and is replayed from then on.

    Every call is one training step; the capture itself takes none. If the optimizer has the option ``capturable``, it
    is set, and the learning rate is put on the device. Each step overwrites the memory of the optimizer's state and
    ``solutions``.

    Raises:
        RuntimeError: from the call that captures, if the step cannot be captured.
    """

    def __init__(self, step: Step) -> None:
        super().__init__(step.network, step.optimizer, step.criterion, step.batches)
        self._step = step
        self._batch: tuple[Tensor, Tensor] | None = None  # the batch that the graph reads
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
            # graphs may be replayed side by side, so each needs its own workspaces of cuBLAS
            torch._C._cuda_clearCublasWorkspaces()
            with torch.cuda.graph(graph):
                self._step()
            torch._C._cuda_clearCublasWorkspaces()
            graph.replay()
            self._graph = graph

    def _load(self, given: tuple[Tensor, Tensor]) -> None:
        """Copy a batch into the one that the graph reads."""
        if self._batch is None:
            inputs = given[0].clone()
            self._batch = inputs, inputs if given[1] is given[0] else given[1].clone()
            self._step.batches = itertools.repeat(self._batch)
        elif given is not self._given:
            for target, source in zip(self._batch, given, strict=True):
                target.copy_(source)
        self._given = given


class EveryOperation(TorchDispatchMode):
    """A mode that sees every operation: meanwhile, compiled code runs uncompiled."""

    def __init__(self) -> None:
        super().__init__()
        self._stances: list[Any] = []  # a stack, since the mode may be entered twice

    def __enter__(self) -> Any:
        self._stances.append(torch.compiler.set_stance("force_eager"))
        self._stances[-1].__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._stances.pop().__exit__(*error)


def autograd_step(step: Step) -> Callable[[], None]:
    """A step as PyTorch's users take it, on the network and batches of ``step``: autograd and torch's own SGD."""
    network, batches, value = step.network, step.batches, step.criterion.value
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, foreach=True)

    def call() -> None:
        inputs, labels = next(batches)
        optimizer.zero_grad()
        value(network(inputs), labels).mean().backward()
        optimizer.step()

    return call
