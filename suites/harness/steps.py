"""One training step of any optimizer, whether it takes a tape or gradients."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.core import FCNN, Criterion, Tape, TapeOptimizer


@dataclass(eq=False)
class Step:
    """A network, its optimizer, and the batch that the next step takes."""

    network: FCNN
    optimizer: torch.optim.Optimizer
    criterion: Criterion
    batches: Iterator[tuple[Tensor, Tensor]]

    def record(self) -> Tape:
        """Forward and backward on the next batch."""
        return self.network.record(self.criterion, *next(self.batches))

    def update(self, tape: Tape) -> None:
        """Step from the tape; an optimizer that knows nothing of tapes finds the gradients in ``param.grad``."""
        if isinstance(self.optimizer, TapeOptimizer):
            self.optimizer.step(tape)
        else:
            tape.write_gradients()
            self.optimizer.step()

    def __call__(self) -> None:
        self.update(self.record())
