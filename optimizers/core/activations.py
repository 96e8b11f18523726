"""Activation functions with their first and second derivatives.

symbol          name     shape
z               z        [B, n]   pre-activation
h = sigma(z)    h        [B, n]   activation
phi'  = dh/dz   slope    [B, n]
phi'' = d2h/dz2 bend     [B, n]
L               lipschitz         a number: |phi'| <= L

The named activations have closed forms; any other twice-differentiable elementwise function gets its derivatives
from ``torch.func`` through :func:`from_function`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

Elements = Float[Tensor, "*elements"]


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivatives. ``slope`` is given ``(z, h)``, ``bend`` ``(z, h, phi')``. Each may
    use what is cheapest.

    ``lipschitz``: L, the smallest bound of |phi'|; NaN if it is unknown.
    """

    name: str
    value: Callable[[Elements], Elements]
    slope: Callable[[Elements, Elements], Elements]
    bend: Callable[[Elements, Elements, Elements], Elements]
    lipschitz: float = math.nan


def from_function(function: Callable[[Elements], Elements], name: str | None = None) -> Activation:
    """An activation whose derivatives come from forward-mode differentiation.

    Args:
        function: any twice-differentiable elementwise function of tensors.
        name: how records name it; the function's own name by default.
    """

    def derivative(of: Callable[[Elements], Elements]) -> Callable[[Elements], Elements]:
        return lambda z: cast(Tensor, torch.func.jvp(of, (z,), (torch.ones_like(z),))[1])

    first = derivative(function)
    second = derivative(first)
    label = name or getattr(function, "__name__", type(function).__name__)
    return Activation(label, function, lambda z, h: first(z), lambda z, h, slope: second(z))


def _softplus_slope(z: Elements, h: Elements) -> Elements:
    return torch.sigmoid(z)


def _softplus_bend(z: Elements, h: Elements, slope: Elements) -> Elements:
    return _sigmoid_slope(z, slope)


def _sigmoid_slope(z: Elements, h: Elements) -> Elements:
    return torch.addcmul(h, h, h, value=-1)


def _sigmoid_bend(z: Elements, h: Elements, slope: Elements) -> Elements:
    return torch.addcmul(slope, slope, h, value=-2)


def _tanh_slope(z: Elements, h: Elements) -> Elements:
    return 1 - h * h


def _tanh_bend(z: Elements, h: Elements, slope: Elements) -> Elements:
    return (slope * h).mul_(-2)


def _relu_slope(z: Elements, h: Elements) -> Elements:
    return (h > 0).to(h.dtype)


def _no_bend(z: Elements, h: Elements, slope: Elements) -> Elements:
    return torch.zeros_like(h)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", torch.sigmoid, _sigmoid_slope, _sigmoid_bend, 0.25),
        Activation("tanh", torch.tanh, _tanh_slope, _tanh_bend, 1.0),
        Activation("softplus", torch.nn.functional.softplus, _softplus_slope, _softplus_bend, 1.0),
        Activation("relu", torch.relu, _relu_slope, _no_bend, 1.0),
        Activation("linear", lambda z: z, lambda z, h: torch.ones_like(h), _no_bend, 1.0),
    )
}
