"""HF: Hessian-free optimization, CG on the Gauss-Newton matrix of the whole network (Martens 2010)."""

import math
from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core import CROSS_ENTROPY, Criterion, Params, Span, Tape, TapeOptimizer
from optimizers.core.curvature import require_convex
from optimizers.core.ranges import BELOW_1, COUNT, POSITIVE

Vector = Float[Tensor, " n"]
Iterate = tuple[Vector, float]  # d, and the model there: grad^T d + d^T (G + lambda I) d / 2
_PROGRESS = 5e-4  # CG stops when the relative progress of the model, per iteration, falls below it
_GROWTH = 1.3  # CG keeps iterates 1, 2, 3, 4, 5, 7, 9, ...: powers of it, rounded up
_ARMIJO = 1e-2  # the share of the decrease promised by the gradient that a step must bring
_SHORTER, _TRIES = 0.8, 60  # of the line search
_LESS, _MORE = 2 / 3, 3 / 2  # factors of the damping where the model predicts well, and badly


class HF(TapeOptimizer):
    """Hessian-free optimization: CG on (G + lambda I) d = -grad, with G the Gauss-Newton matrix of all layers together.

    CG starts from ``decay`` times the last direction and stops by Martens' rule. Of its iterates the step takes the one
    with the lowest loss on the batch, going back from the last until the loss rises. A line search shortens the step.
    Lambda becomes 2/3 of itself where the model predicted the change of the loss well, and 3/2 where it did not
    (Levenberg and Marquardt). Gradient, curvature and losses are those of one batch. Martens' preconditioner is left
    out.

    Each iteration waits for the device, so a step cannot be captured in a CUDA graph.

    Args:
        params: parameters of an ``FCNN``, in one group.
        lr: the longest step of the line search, in units of the direction; above 0.
        damping: the first lambda, above 0. ``param_groups`` has the current one.
        max_iter: the most CG iterations of a step.
        decay: of the last direction, in [0, 1).
        criterion: the training criterion. One that is not convex is refused.

    Raises:
        ValueError: for a hyper-parameter out of range, several groups, or a criterion that is not convex.
    """

    space = MappingProxyType({"damping": Span(1e-3, 100)})
    waits = True
    ranges = MappingProxyType({"lr": POSITIVE, "damping": POSITIVE, "max_iter": COUNT, "decay": BELOW_1})

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        damping: float = 1.0,
        max_iter: int = 50,
        decay: float = 0.95,
        criterion: Criterion = CROSS_ENTROPY,
    ) -> None:
        require_convex(criterion)
        super().__init__(params, {"lr": lr, "damping": damping, "max_iter": max_iter, "decay": decay})
        if len(self.param_groups) > 1:
            raise ValueError(f"Hessian-free optimization takes one parameter group, got {len(self.param_groups)}")

    def blocks(self, params: list[Tensor]) -> list[list[Tensor]]:
        """The parameters that are solved together, in the given order: here all of them."""
        return [params]

    @torch.no_grad()
    def step(self, tape: Tape) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """CG for every block, backtracking over the iterates, line search, damping."""
        (group,) = self.param_groups
        inside = set(group["params"])
        params = [p for layer in tape.layers for p in (layer.weight, layer.bias) if p in inside and p.requires_grad]
        self.on_phase("solve")
        solved = [self._solve(tape, block, group) for block in self.blocks(params)]
        self.on_phase("update")
        trial = _Trial(tape, params)
        direction, model, loss = trial.lowest(solved)
        slope = torch.dot(_gradient(tape, params), direction).item()
        trial.shorten(direction, slope, group["lr"])
        agreement = (loss - trial.loss) / model if model < 0 else 0.0
        if agreement > 3 / 4:
            group["damping"] *= _LESS
        elif not agreement >= 1 / 4:  # or NaN
            group["damping"] *= _MORE
        for param, part in zip(params, _parts(direction, params), strict=True):
            self.state[param]["direction"] = part.clone()

    def _solve(self, tape: Tape, params: list[Tensor], group: dict[str, float]) -> list[Iterate]:
        last = torch.cat([self.state[p].get("direction", torch.zeros_like(p)).flatten() for p in params])

        def damped(v: Vector) -> Vector:
            return _curvature(tape, params, v).add_(v, alpha=group["damping"])

        return minimize(damped, _gradient(tape, params), group["decay"] * last, int(group["max_iter"]))


def minimize(product: Callable[[Vector], Vector], gradient: Vector, start: Vector, max_iter: int) -> list[Iterate]:
    """CG on A d = -grad from a start, with Martens' stopping rule.

    It stops at iteration i if the model fell by less than k 5e-4 of its value over the last k = max(10, i / 10)
    iterations.

    Args:
        product: computes A v from v; A is positive definite.

    Returns:
        Some iterates, ever farther apart; the last one is among them.
    """
    x, r = start, -gradient - product(start)
    p, squared, models, kept, due = r, torch.dot(r, r), [], [], 1.0
    for i in range(1, max_iter + 1):
        q = product(p)
        curvature = torch.dot(p, q)
        if not curvature.item() > 0:
            break
        step = squared / curvature
        x, r = x + step * p, r - step * q
        models.append(torch.dot(x, gradient - r).item() / 2)  # A x = -grad - r
        if i >= due:
            kept.append((x, models[-1]))
            while i >= math.ceil(due):
                due *= _GROWTH
        back = max(10, i // 10)
        if i > back and models[-1] < 0 and models[-1] - models[-1 - back] > back * _PROGRESS * models[-1]:
            break
        previous, squared = squared, torch.dot(r, r)
        p = r + squared / previous * p
    last = (x, models[-1]) if models else (start, 0.0)
    return kept if kept and kept[-1][0] is x else [*kept, last]


class _Trial:
    """Losses of a tape's batch at other parameters. ``loss``: at those of the tape."""

    def __init__(self, tape: Tape, params: list[Tensor]) -> None:
        self.tape, self.params, self.loss = tape, params, tape.loss.item()
        self._origin = [param.clone() for param in params]

    def at(self, direction: Vector, rate: float) -> float:
        """Move the parameters to ``rate`` times the direction from the origin, and return the loss there."""
        for param, origin, part in zip(self.params, self._origin, _parts(direction, self.params), strict=True):
            torch.add(origin, part, alpha=rate, out=param)
        loss = self.tape.loss_now().item()
        return loss if math.isfinite(loss) else math.inf

    def lowest(self, solved: Sequence[Sequence[Iterate]]) -> tuple[Vector, float, float]:
        """The best of the iterates, going back from the last until the loss rises: d, the model and the loss there.

        Blocks go back together; one with fewer iterates starts later.
        """
        found = None
        for number in reversed(range(max(map(len, solved)))):
            chosen = [iterates[min(number, len(iterates) - 1)] for iterates in solved]
            direction, model = torch.cat([d for d, _ in chosen]), sum(model for _, model in chosen)
            loss = self.at(direction, 1.0)
            if found is not None and loss >= found[2]:
                break
            found = direction, model, loss
        assert found is not None, "CG returns at least one iterate"
        return found

    def shorten(self, direction: Vector, slope: float, rate: float) -> None:
        """Shorten the step until the loss is below Armijo's bound; if it never is, the parameters stay."""
        for _ in range(_TRIES):
            if self.at(direction, rate) <= self.loss + _ARMIJO * rate * slope:
                return
            rate *= _SHORTER
        self.at(direction, 0.0)


def _gradient(tape: Tape, params: Sequence[Tensor]) -> Vector:
    found = {}
    for layer in tape.layers:
        found |= {layer.weight: layer.weight_gradient, layer.bias: layer.bias_gradient}
    return torch.cat([found[param].flatten() for param in params])


def _curvature(tape: Tape, params: Sequence[Tensor], v: Vector) -> Vector:
    """The rows and columns of G that belong to ``params``, times v."""
    parts = dict(zip(params, _parts(v, params), strict=True))

    def part(param: Tensor) -> Tensor:
        return parts[param] if param in parts else torch.zeros_like(param)

    vectors = [(part(layer.weight), part(layer.bias)) for layer in tape.layers]
    found = {}
    for layer, (of_weight, of_bias) in zip(tape.layers, tape.gauss_newton_product(vectors), strict=True):
        found |= {layer.weight: of_weight, layer.bias: of_bias}
    return torch.cat([found[param].flatten() for param in params])


def _parts(v: Vector, params: Sequence[Tensor]) -> list[Tensor]:
    """The parts of v in the shapes of the parameters."""
    pieces = v.split([param.numel() for param in params])
    return [piece.view_as(param) for piece, param in zip(pieces, params, strict=True)]
