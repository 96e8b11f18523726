"""The terms of the paper's Table 1, as numbers: what each method is said to take, and what the forms here take.

symbol        meaning
n_t           outputs of layer t = 1..k, n_0 the inputs; O = n_t, I = n_{t-1}
B, |CG|       batch, CG iterations

The paper's terms have no coefficients. Those of the forms here are multiply-adds, where terms of different powers meet
whose shares decide the exponent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from suites.harness.reproduce.growth import Case


@dataclass(frozen=True)
class Term:
    """An O(.): its text, and its number for a case."""

    text: str
    of: Callable[[Case], float]


def _sum(text: str, of: Callable[[int, int, Case], float], first: int = 0) -> Term:
    """A sum over layers of an expression in I, O and the case."""
    return Term(text, lambda case: sum(of(i, o, case) for i, o in list(pairwise(case.network))[first:]))


FISHER = _sum("B Σ n_t²", lambda i, o, case: case.batch * o**2)
# no curvature is propagated through the first layer
PROPAGATED = _sum("Σ n_{t-1}² n_t", lambda i, o, case: i**2 * o, first=1)
KFI = _sum("Σ [n_t³ + n_{t-1}³ + n_{t-1}² n_t + n_{t-1} n_t²]", lambda i, o, case: o**3 + i**3 + i**2 * o + i * o**2)
KFI_SPACE = _sum("Σ_{0..k-1} n_t² + Σ_{1..k} n_t²", lambda i, o, case: i**2 + o**2)
EA_CG = _sum("|CG| Σ [n_t² + 2 n_t n_{t-1}]", lambda i, o, case: case.iterations * (o**2 + 2 * o * i))
EA_CG_SPACE = _sum("Σ_{0..k-1} n_t + Σ_{1..k} n_t²", lambda i, o, case: i + o**2)


def _ea_cg(i: int, o: int, case: Case) -> float:
    """CG on weight and bias in Krylov coordinates, two products with G an iteration; ||grad|| by the cheaper way."""
    grams = case.batch**2 * (i + o)
    return 2 * case.iterations * o**2 + (grams if grams < 75 * i * o else case.batch * i * o)


def _kfi_exact(i: int, o: int, case: Case) -> float:
    B, m = case.batch, min(case.batch, i)
    return o**3 / 3 + m * o**2 + m**2 * o + m**3 / 6 + m * B * i


# a symmetric product takes half the operations; with phi' phi'^T, which depends on the batch
PROPAGATED_HERE = _sum(
    "Σ [n_{t-1}² n_t / 2 + n_{t-1} n_t² + B n_{t-1}² / 2]",
    lambda i, o, case: i**2 * o / 2 + i * o**2 + case.batch * i**2 / 2,
    first=1,
)
EA_CG_HERE = _sum("Σ [2 |CG| n_t² + B² (n_{t-1} + n_t)], with B n_{t-1} n_t for the last if B is large", _ea_cg)
# two Cholesky factorizations of G, with sqrt(alpha)/pi and with alpha, and one of what is smaller: h h^T or E[h h^T]
KFI_EXACT = _sum("Σ [n_t³/3 + m n_t² + m² n_t + m³/6 + m B n_{t-1}], m = min(B, n_{t-1})", _kfi_exact)
KFI_RANK_ONE = _sum(
    "Σ [n_t³/3 + B n_t² + B (n_{t-1} + n_t)]",
    lambda i, o, case: o**3 / 3 + case.batch * (o**2 + i + o),
)
HERE_SPACE = _sum("Σ [n_t² + B n_t]", lambda i, o, case: o**2 + case.batch * o)
