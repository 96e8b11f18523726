"""The terms of the paper's Table 1 as numbers: the stated cost of each method, and the cost of the code here.

symbol        meaning
n_t           outputs of layer t = 1..k, n_0 the inputs; O = n_t, I = n_{t-1}
B, |CG|       batch, CG iterations
s(n)          a symmetric product in strips, on a CPU: half of n^2, and half a strip of n
c(n)          Cholesky of G for weight and bias: n^3/3, and half of that where a CPU solves for the bias by CG

The paper's terms have no coefficients. Those of the code here are multiply-adds: if a sum has several powers, their
shares decide its exponent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from optimizers.core.counts import factors_are_cheaper
from optimizers.core.solvers import small_batch
from optimizers.core.solvers.once import FEW
from optimizers.core.symmetric import STRIP
from suites.harness.reproduce.table1_growth import Case


@dataclass(frozen=True)
class Term:
    """An O(.): its text, and its number for a case."""

    text: str
    of: Callable[[Case], float]


def _sum(text: str, of: Callable[[int, int, Case], float], first: int = 0) -> Term:
    """A sum over layers of an expression in I, O and the case."""
    return Term(text, lambda case: float(sum(of(i, o, case) for i, o in list(pairwise(case.network))[first:])))


FISHER = _sum("B Σ n_t²", lambda i, o, case: case.batch * o**2)
NOTHING = Term("none: delta is there", lambda case: 0.0)
# no curvature is propagated through the first layer
PROPAGATED = _sum("Σ_{2..k} n_{t-1}² n_t", lambda i, o, case: i**2 * o, first=1)
KFI = _sum("Σ [n_t³ + n_{t-1}³ + n_{t-1}² n_t + n_{t-1} n_t²]", lambda i, o, case: o**3 + i**3 + i**2 * o + i * o**2)
KFI_SPACE = _sum("Σ_{0..k-1} n_t² + Σ_{1..k} n_t²", lambda i, o, case: i**2 + o**2)
EA_CG = _sum("|CG| Σ [n_t² + 2 n_t n_{t-1}]", lambda i, o, case: case.iterations * (o**2 + 2 * o * i))
EA_CG_SPACE = _sum("Σ_{0..k-1} n_t + Σ_{1..k} n_t²", lambda i, o, case: i + o**2)


def symmetric(n: int) -> float:
    """s(n)"""
    return n * (n + STRIP) / 2 if n > STRIP else n**2


def cholesky(n: int) -> float:
    """c(n)"""
    return n**3 / (6 if n > FEW else 3)


def _kfi(i: int, o: int, case: Case) -> float:
    """Cholesky of E[h h^T], and of G with sqrt(alpha)/pi and with alpha; the gradient, and its two systems."""
    return cholesky(o) + i**3 / 6 + o * i**2 + i * o**2 + case.batch * (symmetric(i) + i * o)


def _kfi_exact(i: int, o: int, case: Case) -> float:
    """As :func:`_kfi` with the Fisher matrix; each side in the space of the batch where that is smaller."""
    B = case.batch
    if min(i, o) > B and B <= small_batch.SMALL:  # by explicit inverses, and their product
        return symmetric(B) * (i + o) + cholesky(B) + B**3 / 6 + 5 * B**3 / 3 + B**2 * o
    columns = min(i, B)  # of what is solved with G: the gradient, or the rows of delta
    G = B * symmetric(o) + cholesky(o) + o**2 * columns if o <= B else o * symmetric(B) + cholesky(B) + B**2 * min(i, o)
    A = B * (symmetric(i) + i * o) + i**3 / 6 + i**2 * o if i <= B else i * symmetric(B) + B**3 / 6 + B**2 * o
    return G + A + (B * i * o if i <= B < o else 0)


def _ea_cg(i: int, o: int, case: Case) -> float:
    """CG on weight and bias in Krylov coordinates, two products with G an iteration; ||grad|| by the cheaper way."""
    B = case.batch
    return 2 * case.iterations * o**2 + (symmetric(B) * (i + o) if factors_are_cheaper(B, i, o) else B * i * o)


FISHER_HERE = _sum("B Σ s(n_t)", lambda i, o, case: case.batch * symmetric(o))
# with phi' phi'^T, which the batch has a share in
PROPAGATED_HERE = _sum(
    "Σ_{2..k} [s(n_{t-1}) (n_t + B) + n_{t-1} n_t²]",
    lambda i, o, case: symmetric(i) * (o + case.batch) + i * o**2,
    first=1,
)
KFI_HERE = _sum("Σ [c(n_t) + n_{t-1}³/6 + n_{t-1}² n_t + n_{t-1} n_t² + B (s(n_{t-1}) + n_{t-1} n_t)]", _kfi)
KFI_EXACT = _sum("Σ [c(B) + 11 B³/6 + B² n_t + s(B) (n_{t-1} + n_t)] where B < n_{t-1}, n_t; B ≤ 128", _kfi_exact)
KFI_RANK_ONE = _sum(
    "Σ [c(n_t) + B n_t² + B (n_{t-1} + n_t)]", lambda i, o, case: cholesky(o) + case.batch * (o**2 + i + o)
)
EA_CG_HERE = _sum("Σ [2 |CG| n_t² + min(s(B) (n_{t-1} + n_t), B n_{t-1} n_t)]", _ea_cg)
SPACE_HERE = _sum("Σ [n_t² + B n_t]", lambda i, o, case: o**2 + case.batch * o)
KFI_SPACE_HERE = _sum(
    "Σ [n_{t-1}² + n_t² + n_{t-1} n_t + B n_t]", lambda i, o, case: i**2 + o**2 + i * o + case.batch * o
)
