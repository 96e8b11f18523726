"""Criteria: value, gradient and mean Hessian in the logits.

symbol              name          shape
z^k                 logits        [B, C]
y                   labels        [B]      class indices
p = softmax(z^k)    p             [B, C]
C                   value         [B]      one per sample
grad_z C            gradient      [B, C]   one per sample
E[hess_z C]         mean_hessian  [C, C]   mean over the batch

Both of the paper's criteria have closed forms; any other twice-differentiable one gets its derivatives from
``torch.func`` through :func:`from_function`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

Logits = Float[Tensor, "B C"]
Labels = Int[Tensor, " B"]


@dataclass(frozen=True)
class Criterion:
    """A function of logits and labels, with its derivatives in the logits.

    ``convex`` says whether it is convex in the logits, which the Gauss-Newton matrix needs.
    """

    name: str
    convex: bool
    value: Callable[[Logits, Labels], Float[Tensor, " B"]]
    gradient: Callable[[Logits, Labels], Float[Tensor, "B C"]]
    mean_hessian: Callable[[Logits, Labels], Float[Tensor, "C C"]]


def from_function(
    value: Callable[[Float[Tensor, " C"], Int[Tensor, ""]], Float[Tensor, ""]], *, convex: bool, name: str | None = None
) -> Criterion:
    """A criterion whose gradient and Hessian come from ``torch.func``.

    Args:
        value: the loss of one sample, from its logits and its label.
        convex: whether it is convex in the logits.
        name: how records name it; the function's own name by default.
    """
    hessian = torch.func.vmap(torch.func.hessian(value))
    return Criterion(
        name or getattr(value, "__name__", type(value).__name__),
        convex,
        torch.func.vmap(value),
        torch.func.vmap(torch.func.grad(value)),
        lambda logits, labels: hessian(logits, labels).mean(0),
    )


def _mean_outer(weights: Float[Tensor, "B 1"], rows: Float[Tensor, "B C"]) -> Float[Tensor, "C C"]:
    """E[w r r^T] over the batch."""
    return (rows * weights).T @ rows / rows.shape[0]


def _cross_entropy_value(logits: Logits, labels: Labels) -> Float[Tensor, " B"]:
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def _cross_entropy_gradient(logits: Logits, labels: Labels) -> Float[Tensor, "B C"]:
    return logits.softmax(1).sub_(one_hot(labels, logits.shape[1]))


def _cross_entropy_mean_hessian(logits: Logits, labels: Labels) -> Float[Tensor, "C C"]:
    p = logits.softmax(1)
    return torch.diag(p.mean(0)) - p.T @ p / p.shape[0]


CROSS_ENTROPY = Criterion(
    "cross-entropy", True, _cross_entropy_value, _cross_entropy_gradient, _cross_entropy_mean_hessian
)


def bounded(delta: float = 5.0, epsilon: float = 0.2) -> Criterion:
    """The paper's non-convex criterion, Eq. (14): ``C = 1 / (1 + exp(delta (p_y - epsilon)))``, which lies in (0, 1).

    With a = p_y and q = e_y - p:  grad_z a = a q  and  hess_z a = a (q q^T - diag(p) + p p^T).

    Args:
        delta: the steepness, above 0.
        epsilon: the probability of the label at which C = 1/2, in (0, 1).
    """
    if not delta > 0:
        raise ValueError(f"delta must be above 0, got {delta}")
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be in (0, 1), got {epsilon}")

    def parts(logits: Logits, labels: Labels) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = logits.softmax(1)
        a = p.gather(1, labels[:, None])
        q = one_hot(labels, logits.shape[1]) - p
        return p, a, q, torch.sigmoid(delta * (epsilon - a))

    def value(logits: Logits, labels: Labels) -> Float[Tensor, " B"]:
        return parts(logits, labels)[3].squeeze(1)

    def gradient(logits: Logits, labels: Labels) -> Float[Tensor, "B C"]:
        _, a, q, s = parts(logits, labels)
        return -delta * s * (1 - s) * a * q

    def mean_hessian(logits: Logits, labels: Labels) -> Float[Tensor, "C C"]:
        p, a, q, s = parts(logits, labels)
        first = -delta * s * (1 - s) * a  # dC/da times a
        second = delta**2 * s * (1 - s) * (1 - 2 * s) * a**2  # d2C/da2 times a^2
        return _mean_outer(first + second, q) + _mean_outer(first, p) - torch.diag((first * p).mean(0))

    return Criterion("bounded", False, value, gradient, mean_hessian)


CRITERIA: dict[str, Criterion] = {criterion.name: criterion for criterion in (CROSS_ENTROPY, bounded())}
