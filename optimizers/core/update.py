"""Update rules: how the directions of a solver become a step.

symbol              name                shape
d                   direction           of each parameter, from the solver
v                   momentum_buffer     v <- a d + m v,  theta <- theta + lr v
M(delta)            quadratic model     grad^T delta + delta^T (F + lambda I) delta / 2
F                   Fisher matrix       E[J^T hess_z C J]: of a convex criterion here, the Gauss-Newton matrix
lambda              damping
rho                 reduction ratio     of the loss of the batch over that of the model
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.curvature import require_convex
from optimizers.core.kept import count
from optimizers.core.product import Direction, add_scaled
from optimizers.core.tape import Tape

Directions = Mapping[Tensor, Direction | Tensor]  # of each parameter that moves


@dataclass(frozen=True)
class Update:
    """An update rule by name; called like its function.

    function: takes the tape, the parameter group, directions and the state of the optimizer, and moves the parameters.
    """

    name: str
    function: Callable[[Tape, dict[str, Any], Directions, MutableMapping[Any, Any]], None]

    def __call__(
        self, tape: Tape, group: dict[str, Any], directions: Directions, state: MutableMapping[Any, Any]
    ) -> None:
        self.function(tape, group, directions, state)


def plain(tape: Tape, group: dict[str, Any], directions: Directions, state: MutableMapping[Any, Any]) -> None:
    """theta <- theta + lr d."""
    for param, direction in directions.items():
        if isinstance(direction, Tensor):
            add_scaled(param, direction, group["lr"])
        else:
            direction.add_to(param, group["lr"])


PLAIN = Update("plain", plain)


def with_momentum(tape: Tape, group: dict[str, Any], directions: Directions, state: MutableMapping[Any, Any]) -> None:
    """v <- a d + m v, theta <- theta + lr v, with a = 1 and m = ``momentum``.

    ``kl_clip``: a = min(1, sqrt(kl_clip / (-lr^2 grad^T d))), as in kfac-pytorch (Ba, Grosse and Martens 2017).
    ``quadratic``: a and m minimize the model M(a d + m v), Martens and Grosse (2015), sections 6.4 and 7.
    ``damping_interval``: after so many steps lambda is adapted, see :func:`adapt`; their section 6.5.
    """
    lr, basis = group["lr"], [[_dense(d) for d in directions.values()]]
    if group["momentum"] or group["quadratic"]:
        for param in directions:
            if "momentum_buffer" not in state[param]:
                state[param]["momentum_buffer"] = torch.zeros_like(param)
        basis.append([state[param]["momentum_buffer"] for param in directions])
    is_due = group["damping_interval"] and count(state, "damping") % group["damping_interval"] == 0
    model = Model(tape, [*directions], basis, group["damping"])
    weights = model.minimum() if group["quadratic"] else (_clipped(model, lr, group["kl_clip"]), group["momentum"])
    change = model.change(lr, weights) if is_due else None
    for param, d, *v in zip(directions, *basis, strict=True):
        if v:
            add_scaled(v[0].mul_(weights[1]), d, weights[0])
            add_scaled(param, v[0], lr)
        else:
            add_scaled(param, d, lr * weights[0])
    if change is not None:
        damping, omega = group["damping"], group["omega"] ** group["damping_interval"]
        adapt(damping, tape.loss_now() - tape.loss, change, omega, group["min_damping"])


def adapt(
    damping: Float[Tensor, ""],
    reduction: Float[Tensor, ""],
    change: Float[Tensor, ""],
    omega: float,
    min_damping: float,
) -> None:
    """Levenberg and Marquardt's rule: lambda <- omega lambda if rho > 3/4, lambda / omega if rho < 1/4.

    Args:
        damping: lambda, changed in place, and never less than ``min_damping``.
        reduction: the change of the loss, negative if it fell.
        change: that of the model. If it is 0, lambda stays; if it is above 0, rho is 0.
    """
    rho = torch.where(change < 0, reduction / change, 0.5 * (change == 0))
    factor = torch.where(rho > 3 / 4, omega, torch.where(rho >= 1 / 4, 1.0, 1 / omega))  # of NaN 1 / omega
    damping.copy_((damping * factor).clamp_min(min_damping))


@dataclass(frozen=True)
class Model:
    """The quadratic model M over sums c_1 b_1 + ... + c_n b_n of a few vectors, each a tensor for every parameter."""

    tape: Tape
    params: Sequence[Tensor]
    basis: Sequence[Sequence[Tensor]]
    damping: float | Float[Tensor, ""]

    def slope(self, vector: Sequence[Tensor]) -> Float[Tensor, ""]:
        """grad^T b."""
        gradients = {}
        for layer in self.tape.layers:
            gradients |= {layer.weight: layer.weight_gradient, layer.bias: layer.bias_gradient}
        return _dot([gradients[param] for param in self.params], vector)

    @cached_property
    def slopes(self) -> list[Float[Tensor, ""]]:
        """Of all b_i."""
        return [self.slope(vector) for vector in self.basis]

    @cached_property
    def curvature(self) -> list[list[Float[Tensor, ""]]]:
        """b_i^T (F + lambda I) b_j, with a forward pass for each b: J b_i, then E[(J b_i)^T hess_z C (J b_j)]."""
        tape = self.tape
        require_convex(tape.criterion)
        along = [self._along(vector) for vector in self.basis]
        bent = [tape.criterion.product(tape.logits, tape.labels, one) / len(one) for one in along]
        return [
            [_dot([x], [y]) + self.damping * _dot(one, other) for x, one in zip(along, self.basis, strict=True)]
            for y, other in zip(bent, self.basis, strict=True)
        ]

    def _along(self, vector: Sequence[Tensor]) -> Float[Tensor, "B C"]:
        parts = dict(zip(self.params, vector, strict=True))

        def part(param: Tensor) -> Tensor:
            return parts[param] if param in parts else torch.zeros_like(param)

        return self.tape.tangent([(part(layer.weight), part(layer.bias)) for layer in self.tape.layers])

    def minimum(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The c_1 and c_2 that minimize M. c_2 is 0 where b_2 adds nothing to b_1, as a first momentum of 0."""
        first, second = self.slopes
        (of_first, mixed), (_, of_second) = self.curvature
        share = _over(mixed, of_first)
        rest = of_second - share * mixed
        rest = torch.where(rest > 8 * torch.finfo(rest.dtype).eps * of_second, rest, 0)
        m = _over(share * first - second, rest)
        return _over(-first - mixed * m, of_first), m

    def change(self, lr: float | Float[Tensor, ""], weights: Sequence[float | Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """M(lr (c_1 b_1 + ...)) for the weights c."""
        c = [lr * weight for weight, _ in zip(weights, self.basis, strict=False)]
        linear = [one * slope for one, slope in zip(c, self.slopes, strict=True)]
        rows = zip(c, self.curvature, strict=True)
        square = [one * other * B / 2 for one, row in rows for other, B in zip(c, row, strict=True)]
        return torch.stack(linear + square).sum()


def _clipped(model: Model, lr: float | Float[Tensor, ""], kl_clip: float | None) -> float | Float[Tensor, ""]:
    if kl_clip is None:
        return 1.0
    size = -model.slope(model.basis[0]) * lr**2
    return (kl_clip / size.clamp_min(torch.finfo(size.dtype).tiny)).sqrt().clamp_max(1)


def _dense(direction: Direction | Tensor) -> Tensor:
    return direction if isinstance(direction, Tensor) else direction.dense()


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([torch.dot(x.flatten(), y.flatten()) for x, y in zip(one, other, strict=True)]).sum()


def _over(number: Float[Tensor, ""], by: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Their quotient, and 0 where the divisor is not above 0."""
    return torch.where(by > 0, number / torch.where(by > 0, by, 1), 0)
