"""One solve of a damped system: as near to a dense solve in float64 as a factorization is, whatever the data."""

import math

import pytest
import torch

from optimizers.core import Dense, Gram, fisher, gauss_newton
from optimizers.core.cholesky import Request, factorize
from optimizers.core.solvers.kfi import kfi
from optimizers.core.solvers.once import FEW, Once
from optimizers.core.solvers.solution import Status

N = 512
SPECTRA = {
    "of rank 10": torch.logspace(0, -3, 10),
    "decays": torch.logspace(0, -8, N),
    "one is large": torch.tensor([1.0] + [1e-6] * (N - 1)),
    "half are 0": torch.ones(N // 2),
}
WIDE = (40, 500, 4)


@pytest.fixture
def factorized(monkeypatch):
    """The sizes of what LAPACK factorizes."""
    sizes, plain = [], torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda a, **named: sizes.append(len(a)) or plain(a, **named))
    return sizes


def _matrix(eigenvalues, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(N, len(eigenvalues), generator=generator, dtype=torch.float64))[0]
    matrix = (vectors * eigenvalues.double()) @ vectors.T
    return ((matrix + matrix.T) / 2).to(dtype)


def _once(matrix, damping):
    return Once(damping, matrix, torch.zeros((), dtype=torch.int32))


def _expected(matrix, damping, right):
    """A solve in float64, refined."""
    system = matrix.double() + damping * torch.eye(N, dtype=torch.float64)
    x = torch.linalg.solve(system, right.double())
    return x + torch.linalg.solve(system, right.double() - system @ x)


@pytest.mark.parametrize("trace", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_in_float32_it_is_as_near_to_float64_as_a_factorization(spectrum, trace):
    """For right sides of any direction, and of those that the matrix has."""
    matrix = _matrix(SPECTRA[spectrum] * trace / SPECTRA[spectrum].sum(), torch.float32)
    any_direction = torch.randn(N, 1, generator=torch.Generator().manual_seed(1))
    for damping in (1e-2, 1e-4, 1e-6, 1e-8):
        for right in (any_direction, matrix @ any_direction):
            ((factor,),) = factorize([Request(N, lambda: matrix, [damping])])
            expected = _expected(matrix, damping, right)
            error, usual = ((one.solve(right) - expected).norm() for one in (_once(matrix, damping), factor))
            assert error <= 1.1 * usual + 2e-7 * expected.norm()


@pytest.mark.parametrize(
    ("eigenvalues", "traces", "factorizations"),
    [
        (torch.ones(N), (0.1, 0.1), 0),
        (torch.ones(N), (1e6, 1e6), 1),  # many iterations must be expected
        (torch.logspace(-2.2, 0, 30), (14, 2), 1),  # and are needed here, which does not show before
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_factorized_where_cg_would_take_longer(
    factorized, assert_close, dtype, eigenvalues, traces, factorizations
):
    matrix = _matrix(eigenvalues * traces[dtype == torch.float64] / eigenvalues.sum(), dtype)
    right, once = torch.ones(N, 1, dtype=dtype), _once(matrix, 1.0)
    assert_close(once.solve(right).double(), _expected(matrix, 1.0, right), 20 * torch.finfo(dtype).eps)
    assert len(factorized) == factorizations
    assert once.info == 0


def test_kfi_factorizes_a_small_g_for_weight_and_bias(problem, factorized):
    tape = problem((20, FEW, 10), batch=9).record()
    kfi(tape.layers[:1], [Dense(torch.zeros(FEW, FEW, dtype=torch.float64))], damping=0.5)
    assert factorized.count(FEW) == 2


@pytest.mark.parametrize(
    ("curvature", "batch", "sizes"), [(gauss_newton, 9, [500]), (fisher, 400, [400]), (fisher, 600, [500])]
)
def test_kfi_factorizes_a_wide_g_for_the_weight_alone(problem, assert_close, factorized, curvature, batch, sizes):
    """In either space; the bias takes a few products."""
    tape = problem(WIDE, batch=batch).record()
    curved = curvature(tape)[:1]
    solution = kfi(tape.layers[:1], curved, damping=0.5)
    assert (solution.status == Status.SOLVED).all()
    assert [size for size in factorized if size > FEW] == sizes
    system = curved[0].dense() + 0.5 * torch.eye(500, dtype=torch.float64)
    assert_close(solution.biases[0], -torch.linalg.solve(system, tape.layers[0].delta.mean(0)))


def test_kfi_of_other_rows_than_delta_solves_the_same_system(problem, assert_close):
    """A Gram matrix of a user's own, in whose span the gradient is not."""
    tape = problem(WIDE, batch=290).record()
    rows = torch.randn(290, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solution = kfi(tape.layers[:1], [Gram(rows)], damping=0.5)
    system = rows.T @ rows / 290 + 0.5 * torch.eye(500, dtype=torch.float64)
    assert_close(solution.biases[0], -torch.linalg.solve(system, tape.layers[0].delta.mean(0)))


@pytest.mark.parametrize(
    ("entry", "statuses"),
    [
        (math.nan, {Status.NOT_FINITE, Status.FAILED_FACTORIZATION}),
        (math.inf, {Status.NOT_FINITE, Status.FAILED_FACTORIZATION}),
        (-1.0, {Status.FAILED_FACTORIZATION}),
    ],
)
def test_kfi_of_a_wide_g_that_is_no_curvature_is_not_solved(problem, entry, statuses):
    """NaN, infinity, and what is not positive definite: the layer says so, for weight and bias."""
    tape = problem(WIDE, batch=9).record()
    diagonal = torch.full((500,), 3e-3, dtype=torch.float64)
    diagonal[5] = entry
    solution = kfi(tape.layers[:1], [Dense(diagonal.diag())], damping=0.5)
    assert set(solution.status[0].tolist()) <= statuses


def test_kfi_of_a_wide_g_reports_a_damping_that_rounding_loses(problem):
    case = problem(WIDE, batch=9)
    case.network.float()
    tape = case.network.record(case.criterion, case.x.float(), case.labels)
    status = kfi(tape.layers[:1], [Dense(1e9 * torch.eye(500))], damping=0.01).status
    assert status[0, 1] == Status.ILL_CONDITIONED
