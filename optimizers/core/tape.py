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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.activations import Activation
from optimizers.core.counts import factors_are_cheaper
from optimizers.core.criteria import Criterion, Targets
from optimizers.core.product import scaled_product
from optimizers.core.symmetric import gram

Vector = tuple[Float[Tensor, "_O _I"], Float[Tensor, " _O"]]  # in a weight and a bias


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
        return activation.bend(z, self.input, self.slope)

    @cached_property
    def mean_bend(self) -> Float[Tensor, " I"]:
        assert self.pullback is not None, "the first layer is fed by the data"
        return (self.bend * self.pullback).mean(0)

    @cached_property
    def weight_gradient(self) -> Float[Tensor, "O I"]:
        return scaled_product(self.delta.T, self.input, 1 / self.batch)

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

        The largest entry is scaled to 1 first, so that squares neither overflow nor underflow. Scaling a dense gradient
        costs more than its norm, so a CPU does it only where the norm is out of the safe range.
        """
        if not self.prefers_factors and self.delta.device.type == "cpu":
            norm = torch.linalg.vector_norm(self.weight_gradient)
            if 1e7 * math.sqrt(torch.finfo(norm.dtype).tiny) < norm.item() < math.inf:
                return norm
        squared = self.delta if self.prefers_factors else self.weight_gradient
        scale = squared.abs().amax().clamp_min_(torch.finfo(squared.dtype).tiny)
        squared = squared / scale
        if not self.prefers_factors:
            return scale * torch.linalg.vector_norm(squared)
        return scale * torch.vdot(gram(squared).flatten(), self.input_gram.flatten()).sqrt() / self.batch


@dataclass(eq=False)
class Tape:
    """All layers of one recorded batch, first to last, with the criterion that closed it.

    passes: counts of what an optimizer took beside the recorded pass: ``backwards``, ``forwards``, ``tangents`` and
        ``products``.
    """

    layers: list[Layer]
    criterion: Criterion
    logits: Float[Tensor, "B C"]
    labels: Targets
    passes: Counter[str] = field(default_factory=Counter)

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
        self.passes["backwards"] += 1
        deltas = [output_delta]
        for layer in self.layers[:0:-1]:
            deltas.append(layer.slope * (deltas[-1] @ layer.weight))
        return deltas[::-1]

    @torch.no_grad()
    def loss_now(self) -> Float[Tensor, ""]:
        """The loss of the batch at the weights and biases as they are now: a forward pass."""
        self.passes["forwards"] += 1
        h = self.layers[0].input
        for layer, after in zip(self.layers, [*self.layers[1:], None], strict=True):
            h = torch.addmm(layer.bias, h, layer.weight.T)
            if after is not None and after.fed_by is not None:
                h = after.fed_by[0].value(h)
        return self.criterion.value(h, self.labels).mean()

    @torch.no_grad()
    def tangent(self, vectors: Sequence[Vector]) -> Float[Tensor, "B C"]:
        """J v, with J the Jacobian of the logits in all parameters: a forward pass.

        By the R-operator (Schraudolph 2002; Martens 2010): the derivative of z^t along v is
        R z^t = V^t h^{t-1} + v_b^t + W^t R h^{t-1}, with R h^t = phi'(z^t) * R z^t.

        Args:
            vectors: of weight and bias, for each layer first to last.
        """
        self.passes["tangents"] += 1
        moved = None  # R z^t [B, O]; inputs do not move
        for layer, (of_weight, of_bias) in zip(self.layers, vectors, strict=True):
            along = torch.addmm(of_bias, layer.input, of_weight.T)
            moved = along if moved is None else along.addmm_(layer.slope * moved, layer.weight.T)
        assert moved is not None, "a network has a layer"
        return moved

    @torch.no_grad()
    def gauss_newton_product(self, vectors: Sequence[Vector]) -> list[Vector]:
        """E[J^T hess_z C J v]: a forward and a backward pass, in which hess_z C J v goes backwards as any delta does.

        Args:
            vectors: of weight and bias, for each layer first to last.
        """
        deltas = self.backward(self.criterion.product(self.logits, self.labels, self.tangent(vectors)))
        self.passes.update(products=1, backwards=-1, tangents=-1)
        return [
            (delta.T @ layer.input / layer.batch, delta.mean(0))
            for layer, delta in zip(self.layers, deltas, strict=True)
        ]

    def write_gradients(self) -> None:
        """Write ``param.grad`` for every parameter with ``requires_grad``, as ``loss.backward()`` would."""
        for layer in self.layers:
            if layer.weight.requires_grad:
                layer.weight.grad = layer.weight_gradient
            if layer.bias.requires_grad:
                layer.bias.grad = layer.bias_gradient
