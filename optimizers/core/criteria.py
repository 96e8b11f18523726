"""Criteria: value, gradient and mean Hessian in the logits.

symbol                    name          shape
z^k                       logits        [B, C]
y                         targets       [B] class indices, or [B, C] vectors
p = softmax or sigmoid z  p             [B, C]
C                         value         [B]      one per sample
grad_z C                  gradient      [B, C]   one per sample
E[hess_z C]               mean_hessian  [C, C]   mean over the batch; [C], its diagonal, where it is diagonal
hess_z C v                product       [B, C]   one per sample, for vectors v [B, C]

Those below have closed forms; any other twice-differentiable one gets its derivatives from ``torch.func`` through
:func:`from_function`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

Logits = Float[Tensor, "B C"]
Labels = Int[Tensor, " B"]
Vectors = Float[Tensor, "B C"]
Targets = Labels | Vectors


@dataclass(frozen=True)
class Criterion:
    """A function of logits and targets, with its derivatives in the logits.

    convex: whether it is convex in the logits, which the Gauss-Newton matrix needs.
    draw: draws targets from the model, for the Fisher matrix; None if the logits stand for no distribution.
    roots: S_1, S_2, ... [B, C] with E_y[grad grad^T] = sum_i S_i S_i^T for each sample, y drawn from the model; None
        without ``draw``.
    vectors: whether targets are vectors [B, C] rather than class indices [B].
    least, most: the bounds of a target's entries.
    constant: from the mean target [C], the best logits [C] of a network that ignores its input; None if no formula is
        known.
    """

    name: str
    convex: bool
    value: Callable[[Logits, Targets], Float[Tensor, " B"]]
    gradient: Callable[[Logits, Targets], Float[Tensor, "B C"]]
    mean_hessian: Callable[[Logits, Targets], Float[Tensor, "C C"] | Float[Tensor, " C"]]
    product: Callable[[Logits, Targets, Vectors], Float[Tensor, "B C"]]
    draw: Callable[[Logits, Generator], Targets] | None = None
    roots: Callable[[Logits], Iterator[Float[Tensor, "B C"]]] | None = None
    vectors: bool = False
    least: float = -math.inf
    most: float = math.inf
    constant: Callable[[Float[Tensor, " C"]], Float[Tensor, " C"]] | None = None


def from_function(
    value: Callable[[Float[Tensor, " C"], Int[Tensor, ""] | Float[Tensor, " C"]], Float[Tensor, ""]],
    *,
    convex: bool,
    vectors: bool = False,
    name: str | None = None,
) -> Criterion:
    """A criterion whose gradient and Hessian come from ``torch.func``.

    Args:
        value: the loss of one sample, from its logits and its target.
        convex: whether it is convex in the logits.
        vectors: whether a target is a vector [C] rather than a class index.
        name: how records name it; the function's own name by default.
    """
    hessian, gradient = torch.func.vmap(torch.func.hessian(value)), torch.func.grad(value)

    def product(z: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return cast(Tensor, torch.func.jvp(lambda at: gradient(at, y), (z,), (v,))[1])

    return Criterion(
        name or getattr(value, "__name__", type(value).__name__),
        convex,
        torch.func.vmap(value),
        torch.func.vmap(gradient),
        lambda logits, targets: hessian(logits, targets).mean(0),
        torch.func.vmap(product),
        vectors=vectors,
    )


def _mean_outer(weights: Float[Tensor, "B 1"], rows: Float[Tensor, "B C"]) -> Float[Tensor, "C C"]:
    """E[w r r^T] over the batch."""
    return (rows * weights).T @ rows / rows.shape[0]


def _cross_entropy_value(logits: Logits, labels: Labels) -> Float[Tensor, " B"]:
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def _cross_entropy_gradient(logits: Logits, labels: Labels) -> Float[Tensor, "B C"]:
    minus_one = logits.new_full((1, 1), -1.0).expand(len(labels), 1)
    return logits.softmax(1).scatter_add_(1, labels[:, None], minus_one)


def _cross_entropy_mean_hessian(logits: Logits, labels: Labels) -> Float[Tensor, "C C"]:
    p = logits.softmax(1)
    return torch.addmm(p.mean(0).diag(), p.T, p, alpha=-1 / p.shape[0])


def _of_softmax(p: Float[Tensor, "B C"], vectors: Vectors) -> Float[Tensor, "B C"]:
    """(diag(p) - p p^T) v, sample by sample."""
    return p * (vectors - (p * vectors).sum(1, keepdim=True))


def _draw_classes(logits: Logits, generator: Generator) -> Labels:
    """As ``torch.multinomial`` draws, but NaN gives a label and no error, and a GPU does not wait."""
    p = logits.softmax(1)
    waiting = torch.empty_like(p).exponential_(generator=generator)
    return torch.div(p, waiting, out=waiting).argmax(1)


def _roots_of_classes(gradient: Callable[[Logits, Labels], Float[Tensor, "B C"]], logits: Logits) -> Iterator[Tensor]:
    """The gradient for each class, times the root of the probability of the class."""
    p = logits.softmax(1)
    for label in range(logits.shape[1]):
        labels = torch.full((len(logits),), label, device=logits.device)
        yield p[:, label, None].sqrt() * gradient(logits, labels)


def _roots_of_diagonal(entries: Float[Tensor, "B C"]) -> Iterator[Tensor]:
    """For each column, the roots of its entries and zeros elsewhere."""
    for column, of_one in enumerate(entries.sqrt().T):
        root = torch.zeros_like(entries)
        root[:, column] = of_one
        yield root


CROSS_ENTROPY = Criterion(
    "cross-entropy",
    True,
    _cross_entropy_value,
    _cross_entropy_gradient,
    _cross_entropy_mean_hessian,
    lambda logits, labels, vectors: _of_softmax(logits.softmax(1), vectors),
    _draw_classes,
    partial(_roots_of_classes, _cross_entropy_gradient),
)


def _draw_normal(logits: Logits, generator: Generator) -> Vectors:
    return logits + torch.randn(logits.shape, generator=generator, dtype=logits.dtype, device=logits.device)


# C = ||z - y||^2 / 2, minus the log-likelihood of y ~ N(z, I) up to a constant
SQUARED_ERROR = Criterion(
    "squared-error",
    True,
    lambda logits, targets: (logits - targets).square().sum(1) / 2,
    lambda logits, targets: logits - targets,
    lambda logits, targets: logits.new_ones(logits.shape[1]),
    lambda logits, targets, vectors: vectors,
    _draw_normal,
    lambda logits: _roots_of_diagonal(torch.ones_like(logits)),
    vectors=True,
    constant=lambda mean: mean,
)


def _draw_bits(logits: Logits, generator: Generator) -> Vectors:
    """1 with probability p, else 0; NaN gives 0, where ``torch.bernoulli`` raises an error."""
    p = logits.sigmoid()
    return torch.rand(p.shape, generator=generator, dtype=p.dtype, device=p.device).lt_(p)


def _bernoulli_hessians(logits: Logits) -> Float[Tensor, "B C"]:
    """p (1 - p), the diagonals."""
    p = logits.sigmoid()
    return torch.addcmul(p, p, p, value=-1)


# C = -sum_c log P(y_c), y_c ~ Bernoulli(p_c) with p = sigmoid(z): binary cross-entropies
BERNOULLI = Criterion(
    "bernoulli",
    True,
    lambda logits, targets: binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1),
    lambda logits, targets: logits.sigmoid() - targets,
    lambda logits, targets: _bernoulli_hessians(logits).mean(0),
    lambda logits, targets, vectors: _bernoulli_hessians(logits) * vectors,
    _draw_bits,
    lambda logits: _roots_of_diagonal(_bernoulli_hessians(logits)),
    vectors=True,
    least=0.0,
    most=1.0,
    constant=lambda mean: mean.logit(eps=torch.finfo(mean.dtype).eps),
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

    def factors(logits: Logits, labels: Labels) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """p, q, a dC/da and a^2 d2C/da2."""
        p, a, q, s = parts(logits, labels)
        return p, q, -delta * s * (1 - s) * a, delta**2 * s * (1 - s) * (1 - 2 * s) * a**2

    def gradient(logits: Logits, labels: Labels) -> Float[Tensor, "B C"]:
        _, q, first, _ = factors(logits, labels)
        return first * q

    def mean_hessian(logits: Logits, labels: Labels) -> Float[Tensor, "C C"]:
        p, q, first, second = factors(logits, labels)
        return _mean_outer(first + second, q) + _mean_outer(first, p) - torch.diag((first * p).mean(0))

    def product(logits: Logits, labels: Labels, vectors: Vectors) -> Float[Tensor, "B C"]:
        p, q, first, second = factors(logits, labels)
        return (first + second) * q * (q * vectors).sum(1, keepdim=True) - first * _of_softmax(p, vectors)

    return Criterion(
        "bounded", False, value, gradient, mean_hessian, product, _draw_classes, partial(_roots_of_classes, gradient)
    )


CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion for criterion in (CROSS_ENTROPY, bounded(), SQUARED_ERROR, BERNOULLI)
}
