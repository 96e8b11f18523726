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
from jaxtyping import Float
from torch import Tensor

from optimizers.core.activations import Activation
from optimizers.core.counts import factors_are_cheaper
from optimizers.core.criteria import Criterion, Targets
from optimizers.core.symmetric import gram


@dataclass(eq=False)
class Layer:
    """One layer of a tape; the module header gives the shapes."""

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, " O"]
    input: Float[Tensor, "B I"]
    fed_by: tuple[Activation, Float[Tensor, "B I"]] | None  # activation and z^{t-1} before this layer
    delta: Float[Tensor, "B O"]
    pullback: Float[Tensor, "B I"] | None = None

    @cached_property
    def batch(self) -> int:
        return self.input.shape[0]

    @cached_property
    def inputs(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @cached_property
    def slope(self) -> Float[Tensor, "{self.batch} {self.inputs}"]:
        assert self.fed_by is not None, "the first layer is fed by the data"
        activation, z = self.fed_by
        return activation.slope(z, self.input)

    @cached_property
    def bend(self) -> Float[Tensor, "{self.batch} {self.inputs}"]:
        assert self.fed_by is not None, "the first layer is fed by the data"
        activation, z = self.fed_by
        return activation.bend(z, self.input)

    @cached_property
    def mean_bend(self) -> Float[Tensor, " I"]:
        assert self.pullback is not None, "the first layer is fed by the data"
        return (self.bend * self.pullback).mean(0)

    @cached_property
    def weight_gradient(self) -> Float[Tensor, "O I"]:
        return (self.delta / self.batch).T @ self.input

    @cached_property
    def bias_gradient(self) -> Float[Tensor, " O"]:
        return self.delta.mean(0)

    @cached_property
    def mean_input(self) -> Float[Tensor, " I"]:
        return self.input.mean(0)

    @cached_property
    def input_gram(self) -> Float[Tensor, "B B"]:
        """h h^T, the inner products of the batch's inputs."""
        return gram(self.input)

    @cached_property
    def prefers_factors(self) -> bool:
        """Whether a direction is carried as ``left @ input``, rather than as a dense [O, I] matrix."""
        return factors_are_cheaper(self.batch, self.inputs, self.outputs)

    @cached_property
    def gradient_norm(self) -> Float[Tensor, ""]:
        """||E[delta h^T]||_F, by the B x B Gram matrices where the gradient need not be formed.

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
    logits: Float[Tensor, "B C"]
    labels: Targets

    @cached_property
    def loss(self) -> Float[Tensor, ""]:
        """The mean of the criterion over the batch."""
        return self.criterion.value(self.logits, self.labels).mean()

    @cached_property
    def mean_hessian(self) -> Float[Tensor, "C C"] | Float[Tensor, " C"]:
        """E[hess_z C] in the logits; its diagonal alone where it is diagonal."""
        return self.criterion.mean_hessian(self.logits, self.labels)

    @torch.no_grad()
    def backward(self, output_delta: Float[Tensor, "B C"]) -> list[Float[Tensor, "B O"]]:
        """Propagate other gradients in the logits through the recorded pass: one delta^t per layer."""
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
