"""One training step of any optimizer, and its phases; the optimizer may take a tape or gradients."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.core import FCNN, Criterion, Tape, TapeOptimizer


@dataclass(eq=False)
class Step:
    """A network, its optimizer, and the batches to come: each call takes one training step."""

    network: FCNN
    optimizer: torch.optim.Optimizer
    criterion: Criterion
    batches: Iterator[tuple[Tensor, Tensor]]
    _on_phase: Callable[[str | None], None] = lambda phase: None

    def watch(self, on_phase: Callable[[str | None], None]) -> None:
        """Call ``on_phase`` at the begin of each phase with its name, one of ``PHASES``, and after a step with None."""
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
        else:
            tape.write_gradients()
            self._on_phase("update")
            self.optimizer.step()
        self._on_phase(None)

    def __call__(self) -> None:
        self.update(self.record())


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
