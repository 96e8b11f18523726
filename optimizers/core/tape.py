"""The tape: what one forward and one backward pass leave behind, and the contract between all other modules.

symbol                  name               shape
W^t, b^t                weight, bias       [O, I], [O]
h^{t-1}                 input              [B, I]
delta^t                 delta              [B, O]   per-sample gradient of the criterion in z^t
W^tT delta^t            pullback           [B, I]   per-sample gradient in h^{t-1}; None for the first layer
phi'(z^{t-1})           slope              [B, I]   of the activation that feeds the layer
phi''(z^{t-1})          bend               [B, I]
E[phi'' * W^tT delta^t] mean_bend          [I]
E[delta^t h^{t-1 T}]    weight_gradient    [O, I]
E[delta^t]              bias_gradient      [O]
E[h^{t-1}]              mean_input         [I]

What costs something is computed when first asked for, once. Treat every tensor of a tape as read-only.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from optimizers.core.activations import Activation
from optimizers.core.criteria import Criterion
from optimizers.core.symmetric import gram


def factors_are_cheaper(batch: int, inputs: int, outputs: int) -> bool:
    """Whether ``left @ input`` is a cheaper way to carry a direction than a dense [O, I] matrix.

    A dense gradient costs about three passes over O x I numbers, the Gram matrices of the factors 2 B^2 (I + O)
    operations; processors do some 50 operations in the time that one number of a pass takes.
    """
    return batch**2 * (inputs + outputs) < 75 * inputs * outputs


@dataclass(eq=False)
class Layer:
    """One layer of a tape; the module header gives the shapes."""

    weight: Tensor
    bias: Tensor
    input: Tensor
    fed_by: tuple[Activation, Tensor] | None  # activation and z^{t-1} before this layer
    delta: Tensor
    pullback: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.input.shape[0]

    @cached_property
    def slope(self) -> Tensor:
        assert self.fed_by is not None, "the first layer is fed by the data"
        activation, z = self.fed_by
        return activation.slope(z, self.input)

    @cached_property
    def bend(self) -> Tensor:
        assert self.fed_by is not None, "the first layer is fed by the data"
        activation, z = self.fed_by
        return activation.bend(z, self.input)

    @cached_property
    def mean_bend(self) -> Tensor:
        assert self.pullback is not None, "the first layer is fed by the data"
        return (self.bend * self.pullback).mean(0)

    @cached_property
    def weight_gradient(self) -> Tensor:
        return (self.delta / self.batch).T @ self.input

    @cached_property
    def bias_gradient(self) -> Tensor:
        return self.delta.mean(0)

    @cached_property
    def mean_input(self) -> Tensor:
        return self.input.mean(0)

    @cached_property
    def input_gram(self) -> Tensor:
        """h h^T, the inner products of the batch's inputs, [B, B]."""
        return gram(self.input)

    @property
    def prefers_factors(self) -> bool:
        """Whether a direction is carried as ``left @ input``, rather than as a dense [O, I] matrix."""
        outputs, inputs = self.weight.shape
        return factors_are_cheaper(self.batch, inputs, outputs)

    @cached_property
    def gradient_norm(self) -> Tensor:
        """||E[delta h^T]||_F, a scalar; by the B x B Gram matrices where the gradient need not be formed.

        What is squared has its largest entry at 1, so that the squares of a tiny or a huge gradient are still numbers.
        """
        squared = self.delta if self.prefers_factors else self.weight_gradient
        scale = torch.linalg.vector_norm(squared, math.inf).clamp_min(torch.finfo(squared.dtype).tiny)
        squared = squared / scale
        if not self.prefers_factors:
            return scale * torch.linalg.vector_norm(squared)
        return scale * torch.vdot(gram(squared).flatten(), self.input_gram.flatten()).sqrt() / self.batch


@dataclass(eq=False)
class Tape:
    """All layers of one recorded batch, first to last, with the criterion that closed it."""

    layers: list[Layer]
    criterion: Criterion
    logits: Tensor  # [B, C]
    labels: Tensor  # [B]

    @cached_property
    def loss(self) -> Tensor:
        """The mean of the criterion over the batch, a scalar."""
        return self.criterion.value(self.logits, self.labels).mean()

    @cached_property
    def mean_hessian(self) -> Tensor:
        """E[hess_z C] in the logits, [C, C]."""
        return self.criterion.mean_hessian(self.logits, self.labels)

    @torch.no_grad()
    def backward(self, output_delta: Tensor) -> list[Tensor]:
        """Propagate other gradients in the logits [B, C] through the recorded pass: delta^t [B, O], one per layer."""
        deltas = [output_delta]
        for layer in self.layers[:0:-1]:
            deltas.append(layer.slope * (deltas[-1] @ layer.weight))
        return deltas[::-1]

    def write_gradients(self) -> None:
        """Write ``param.grad`` for every parameter with ``requires_grad``, as ``loss.backward()`` would."""
        for layer in self.layers:
            if layer.weight.requires_grad:
                layer.weight.grad = layer.weight_gradient
            if layer.bias.requires_grad:
                layer.bias.grad = layer.bias_gradient
