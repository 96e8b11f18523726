"""Solvers: every direction against conjugate gradients on matrices or a dense solve written out here."""

import math
import sys
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optimizers.core import (
    BERNOULLI,
    CROSS_ENTROPY,
    Dense,
    Gram,
    Product,
    Status,
    ea_cg,
    fisher,
    gauss_newton,
    kfi,
    pch,
)
from optimizers.core.product import RankOneUpdate
from optimizers.core.solvers.cg import conjugate_gradient
from optimizers.core.solvers.ea_cg import FACTORS
from optimizers.core.solvers.inverses import INVERSES
from optimizers.core.tape import Layer

LARGE = (16, 14, 12)  # inputs, hidden, classes: enough distinct eigenvalues to keep CG busy for ten iterations
every_form = pytest.mark.parametrize("inverse", ["factor", "gram", "exact", "auto"])  # of Eq. (12)


@pytest.fixture(autouse=True)
def _no_autograd():
    """Solvers run as they do within ``step()``."""
    with torch.no_grad():
        yield


@pytest.fixture(params=[True, False], ids=["factors", "dense"])
def prefers_factors(request, monkeypatch):
    """Whether layers carry weight directions as ``left @ input`` or as dense matrices."""
    monkeypatch.setattr(Layer, "prefers_factors", request.param)
    return request.param


@pytest.fixture(params=["cpu", "gpu"])
def either_way(request, monkeypatch):
    """The ways of a CPU, and on a CPU those of a GPU: what is small is one padded batch, solved with inverses."""
    for module in ("cholesky", "solvers.kfi"):
        monkeypatch.setattr(sys.modules[f"optimizers.core.{module}"], "on_gpu", lambda matrix: request.param == "gpu")


def _gradients(layer):
    """grad W = E[delta h^T] and grad b = E[delta]."""
    return torch.einsum("bo,bi->oi", layer.delta, layer.input) / layer.batch, layer.delta.mean(0)


def _identity(like):
    return torch.eye(like.shape[0], dtype=like.dtype)


def _matrices(curvature):
    return [G.dense() for G in curvature]


# conjugate gradients


def _spd(rows, n, seed):
    """Symmetric positive definite matrices [rows, n, n] with eigenvalues in [0.5, 5]."""
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(rows, n, n, generator=generator, dtype=torch.float64))
    eigenvalues = 0.5 + 4.5 * torch.rand(rows, 1, n, generator=generator, dtype=torch.float64)
    return (Q * eigenvalues) @ Q.mT


def _apply(A):
    return lambda p, Mp, q: lambda active: q.copy_(_times(A, p))


def _times(A, p):
    return (A @ p.unsqueeze(-1)).squeeze(-1)


def test_cg_recovers_what_the_right_side_was_made_of(assert_close):
    """x drawn, b = A x, and CG finds x in every row at once."""
    A = _spd(5, 8, seed=0)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = _times(A, x)
    solution, iterations, residual, broken = conjugate_gradient(_apply(A), b, max_iter=50, tolerance=1e-14)
    assert_close(solution, x)
    assert_close(solution, torch.linalg.solve(A, b))
    assert (iterations <= 12).all()
    assert (residual <= 1e-14).all()
    assert not broken.any()


def test_cg_rows_converge_separately(assert_close):
    """A row that has converged stands still: each behaves as if it were alone, in iterations, x and residual."""
    A = _spd(4, 8, seed=2)
    A[0] = 3 * torch.eye(8)  # one iteration
    A[1] = torch.diag(torch.tensor([1.0, 1, 1, 1, 5, 5, 5, 5]))  # two
    b = torch.randn(4, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x, iterations, residual, _ = conjugate_gradient(_apply(A), b, max_iter=50, tolerance=1e-6)
    assert iterations[:2].tolist() == [1, 2]
    assert iterations[2:].min() > 2
    assert_close(residual, (b - _times(A, x)).norm(dim=1) / b.norm(dim=1), 1e-6)
    for row in range(4):
        alone = conjugate_gradient(_apply(A[row]), b[row], max_iter=50, tolerance=1e-6)
        assert_close(x[row], alone[0])
        assert iterations[row] == alone[1]


def test_cg_stops_at_max_iter(assert_close):
    """Three iterations are three iterations, and the residual is that of the x returned."""
    A = _spd(1, 8, seed=4)
    b = torch.ones(1, 8, dtype=torch.float64)
    x, iterations, residual, broken = conjugate_gradient(_apply(A), b, max_iter=3, tolerance=1e-12)
    assert iterations.item() == 3
    assert not broken.item()
    assert residual.item() > 1e-3
    assert_close(residual, (b - _times(A, x)).norm(dim=1) / b.norm(dim=1), 1e-10)


def test_cg_of_zero_is_zero():
    """b = 0 gives x = 0 at once and no NaN, beside a row that needs work."""
    A = _spd(2, 6, seed=5)
    b = torch.stack([torch.zeros(6), torch.ones(6)]).double()
    x, iterations, residual, broken = conjugate_gradient(_apply(A), b, max_iter=20, tolerance=1e-10)
    assert torch.equal(x[0], b[0])
    assert iterations[0] == 0
    assert residual[0] == 0
    assert x.isfinite().all()
    assert residual.isfinite().all()
    assert not broken.any()


def test_cg_reports_an_indefinite_matrix(assert_close):
    """p^T A p <= 0 stops the row, which keeps the x it had; the other row goes on."""
    A = torch.stack([torch.diag(torch.tensor([1.0, 2.0, -4.0])), 2 * torch.eye(3)]).double()
    b = torch.tensor([[1.0, 1.0, 0.1], [1.0, 2.0, 3.0]], dtype=torch.float64)
    x, iterations, _, broken = conjugate_gradient(_apply(A), b, max_iter=20, tolerance=1e-12)
    assert broken.tolist() == [True, False]
    assert 1 <= iterations[0] < 20
    assert x.isfinite().all()
    before, _, _, met = conjugate_gradient(_apply(A), b, max_iter=iterations[0].item(), tolerance=1e-12)
    assert not met[0]
    assert torch.equal(x[0], before[0])
    assert_close(x[1], b[1] / 2)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_cg_of_tiny_and_huge_right_sides(assert_close, size):
    """Squares of such numbers are none of float32's: x is that of b = A x at size 1, times the size."""
    A = _spd(3, 8, seed=6).float()
    b = torch.randn(3, 8, generator=torch.Generator().manual_seed(7))
    x, iterations, residual, _ = conjugate_gradient(_apply(A), size * b, max_iter=20, tolerance=1e-3)
    expected, of_one, _, _ = conjugate_gradient(_apply(A), b, max_iter=20, tolerance=1e-3)
    assert_close(x / size, expected, 1e-5)
    assert torch.equal(iterations, of_one)
    assert (residual <= 1e-3).all()


def test_cg_says_what_is_not_finite(assert_close):
    """NaN or infinity in b or in A leaves a residual of NaN, which no tolerance is above; other rows are solved."""
    A = _spd(5, 6, seed=8)
    b = torch.ones(5, 6, dtype=torch.float64)
    b[0, 2], b[1, 2], A[2, 3, 3], A[3, 3, 3] = math.nan, math.inf, math.nan, math.inf
    x, _, residual, broken = conjugate_gradient(_apply(A), b, max_iter=20, tolerance=1e-10)
    assert residual[:4].isnan().all()
    assert not broken.any()
    assert_close(x[4], torch.linalg.solve(A[4], b[4]), 1e-9)


# EA-CG


def _textbook_cg(operator, right, iterations):
    """Hestenes and Stiefel's iterates on tensors of any shape, and ||r|| / ||r_0|| of the last."""
    x, r = torch.zeros_like(right), right.clone()
    p = r.clone()
    for _ in range(iterations):
        q = operator(p)
        step = (r * r).sum() / (p * q).sum()
        x, previous, r = x + step * p, r, r - step * q
        p = r + (r * r).sum() / (previous * previous).sum() * p
    return x, r.norm() / right.norm()


def _ea_cg_operators(layer, G, damping):
    """P -> (1 - a) G P hbar hbar^T + a P for the weight, p -> (1 - a) G p + a p for the bias."""
    hbar = layer.input.mean(0)
    outer = torch.outer(hbar, hbar)
    return (
        lambda P: (1 - damping) * G @ P @ outer + damping * P,
        lambda p: (1 - damping) * G @ p + damping * p,
    )


@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("damping", [0.05, 0.5])
@pytest.mark.usefixtures("prefers_factors")
def test_ea_cg_iterates_are_those_on_matrices(problem, assert_close, iterations, damping):
    """Eqs. (9)-(11): CG on ((1 - a) H + a I) d = -grad with H P = G P hbar hbar^T, iterate by iterate."""
    tape = problem(LARGE).record()
    factors = pch(tape)
    solution = ea_cg(tape.layers, factors, damping=damping, max_iter=iterations, tolerance=0)
    assert (solution.iterations == iterations).all()
    for t, (layer, G) in enumerate(zip(tape.layers, _matrices(factors), strict=True)):
        weight, bias = _gradients(layer)
        on_weight, on_bias = _ea_cg_operators(layer, G, damping)
        expected_weight, weight_residual = _textbook_cg(on_weight, -weight, iterations)
        expected_bias, bias_residual = _textbook_cg(on_bias, -bias, iterations)
        assert_close(solution.weights[t].dense(), expected_weight)
        assert_close(solution.biases[t], expected_bias)
        assert_close(solution.residual[t], torch.stack([weight_residual, bias_residual]), 1e-6)


@pytest.mark.usefixtures("prefers_factors")
def test_ea_cg_stops_where_cg_on_matrices_would(problem, assert_close):
    """Each system stops at the first iterate with ||r|| <= eps ||r_0||, and says so; the rest stop at max_iter."""
    tape = problem(LARGE).record()
    factors = pch(tape)
    damping, max_iter, tolerance = 0.05, 4, 0.05
    solution = ea_cg(tape.layers, factors, damping, max_iter, tolerance)
    for t, (layer, G) in enumerate(zip(tape.layers, _matrices(factors), strict=True)):
        found = [solution.weights[t].dense(), solution.biases[t]]
        systems = zip(_ea_cg_operators(layer, G, damping), _gradients(layer), found, strict=True)
        for column, (operator, gradient, direction) in enumerate(systems):
            runs = [_textbook_cg(operator, -gradient, iterations) for iterations in range(max_iter + 1)]
            enough = [iterations for iterations, (_, residual) in enumerate(runs) if residual <= tolerance]
            stopped = enough[0] if enough else max_iter
            assert solution.iterations[t, column] == stopped
            assert solution.status[t, column] == (Status.SOLVED if enough else Status.MAX_ITERATIONS)
            assert_close(direction, runs[stopped][0])
    assert set(solution.status.flatten().tolist()) == {Status.SOLVED, Status.MAX_ITERATIONS}


@pytest.mark.parametrize(("share", "status"), [(0.999, Status.MAX_ITERATIONS), (1.001, Status.SOLVED)])
def test_ea_cg_is_solved_at_its_tolerance(problem, share, status):
    """||r|| <= eps ||r_0|| is what SOLVED means: an eps just below or just above the residual reached decides."""
    tape = problem(LARGE).record()
    layers, factors = tape.layers[:1], pch(tape)[:1]
    reached = ea_cg(layers, factors, damping=0.05, max_iter=3, tolerance=0).residual[0]
    for column in range(2):
        tolerance = share * reached[column].item()
        assert ea_cg(layers, factors, 0.05, 3, tolerance).status[0, column] == status


@pytest.mark.usefixtures("prefers_factors")
def test_ea_cg_converges_to_the_dense_solve(problem, assert_close):
    """d = -((1 - a) G (x) hbar hbar^T + a I)^{-1} grad for weights, -((1 - a) G + a I)^{-1} grad for biases."""
    tape, damping = problem().record(), 0.05
    factors = pch(tape)
    solution = ea_cg(tape.layers, factors, damping=damping, max_iter=100, tolerance=1e-14)
    assert (solution.status == Status.SOLVED).all()
    for layer, G, direction, bias in zip(
        tape.layers, _matrices(factors), solution.weights, solution.biases, strict=True
    ):
        hbar = layer.input.mean(0)
        H = torch.kron(G, torch.outer(hbar, hbar))  # of weights read row by row
        weight_gradient, bias_gradient = _gradients(layer)
        expected = -torch.linalg.solve((1 - damping) * H + damping * _identity(H), weight_gradient.flatten())
        assert_close(direction.dense().flatten(), expected, 1e-11)
        assert_close(bias, -torch.linalg.solve((1 - damping) * G + damping * _identity(G), bias_gradient), 1e-11)


@pytest.mark.usefixtures("prefers_factors")
def test_ea_cg_with_a_gradient_along_the_mean_input(problem, assert_close):
    """At B = 1, hbar = h and grad_perp = 0: the solution has no part across hbar, and no NaN."""
    tape, damping = problem(batch=1).record(), 0.05
    factors = pch(tape)
    solution = ea_cg(tape.layers, factors, damping=damping, max_iter=100, tolerance=1e-10)
    for layer, G, direction in zip(tape.layers, _matrices(factors), solution.weights, strict=True):
        h = layer.input[0]
        scaled = (1 - damping) * h.dot(h) * G + damping * _identity(G)
        assert_close(direction.dense(), -torch.outer(torch.linalg.solve(scaled, layer.delta[0]), h), 1e-8)


@pytest.mark.usefixtures("prefers_factors")
@pytest.mark.parametrize("exact", [True, False])
def test_ea_cg_with_a_mean_input_of_zero(problem, assert_close, exact):
    """At hbar = 0, exact or up to rounding, H = 0 and d = -grad / a."""
    case = problem(batch=8)
    x = (8 * case.x).round() / 8 if exact else case.x  # sums of eighths do not round, nor their sixteenths
    tape = case.network.record(case.criterion, torch.cat([x, -x]), torch.cat([case.labels, case.labels]))
    layer = tape.layers[0]
    assert layer.mean_input.any() == (not exact)
    solution = ea_cg([layer], pch(tape)[:1], damping=0.1, max_iter=5, tolerance=1e-10)
    assert_close(solution.weights[0].dense(), -_gradients(layer)[0] / 0.1)


def test_ea_cg_reports_negative_curvature(problem):
    """G < 0 is met at the first product; the direction is finite."""
    tape = problem().record()
    factors = [Dense(-100 * torch.eye(G.size, dtype=torch.float64)) for G in pch(tape)]
    solution = ea_cg(tape.layers, factors, damping=0.01, max_iter=10, tolerance=1e-6)
    assert (solution.status == Status.NEGATIVE_CURVATURE).all()
    assert all(direction.dense().isfinite().all() for direction in solution.weights)


@pytest.mark.usefixtures("prefers_factors")
def test_ea_cg_without_a_gradient_stays(problem):
    """grad = 0 gives d = 0 without iterating."""
    tape = problem().record()
    layer = tape.layers[0]
    still = Layer(layer.weight, layer.bias, layer.input, None, torch.zeros_like(layer.delta))
    solution = ea_cg([still], pch(tape)[:1], damping=0.01, max_iter=10, tolerance=1e-6)
    assert not solution.weights[0].dense().any()
    assert not solution.biases[0].any()
    assert not solution.iterations.any()
    assert (solution.status == Status.SOLVED).all()


# EA-CG with the full factor: batches below, between and above the widths of the layers, one of which widens

WIDENING = (10, 14, 12)
every_space = pytest.mark.parametrize("batch", [3, 13, 40])
FULL = {
    "fisher": (fisher, CROSS_ENTROPY),
    "pch": (pch, CROSS_ENTROPY),
    "diagonal": (pch, BERNOULLI),
    "other rows": (lambda tape: [Gram(layer.delta + 0.1) for layer in tape.layers], CROSS_ENTROPY),
}
every_operator = pytest.mark.parametrize(("curvature", "criterion"), FULL.values(), ids=FULL)


def _full_operator(layer, G, damping):
    """P -> (1 - a) G P E[h h^T] + a P."""
    second_moment = layer.input.T @ layer.input / layer.batch
    return lambda P: (1 - damping) * G @ P @ second_moment + damping * P


@every_space
@every_operator
@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_full_factor_iterates_are_those_on_matrices(problem, assert_close, curvature, criterion, batch, iterations):
    """Eqs. (9) and (11a), iterate by iterate, and the residual of each."""
    tape = problem(WIDENING, batch=batch, criterion=criterion).record()
    factors = curvature(tape)
    solution = ea_cg(tape.layers, factors, damping=0.05, max_iter=iterations, tolerance=1e-9, factor="full")
    for t, (layer, G) in enumerate(zip(tape.layers, _matrices(factors), strict=True)):
        weight, bias = _gradients(layer)
        on_bias = _ea_cg_operators(layer, G, 0.05)[1]
        expected, residual = _textbook_cg(_full_operator(layer, G, 0.05), -weight, iterations)
        assert solution.iterations[t, 0] == iterations
        assert_close(solution.weights[t].dense(), expected)
        assert_close(solution.residual[t, 0], residual, 1e-6)
        ran = solution.iterations[t, 1].item()  # the bias may be solved before
        assert ran == iterations or solution.status[t, 1] == Status.SOLVED
        assert_close(solution.biases[t], _textbook_cg(on_bias, -bias, ran)[0])


@every_space
@every_operator
def test_full_factor_converges_to_the_dense_solve(problem, assert_close, curvature, criterion, batch):
    """d = -((1 - a) G (x) E[h h^T] + a I)^{-1} grad for weights, with weights and biases solved to their tolerance."""
    tape, damping = problem(WIDENING, batch=batch, criterion=criterion).record(), 0.05
    factors = curvature(tape)
    solution = ea_cg(tape.layers, factors, damping=damping, max_iter=100, tolerance=1e-13, factor="full")
    assert (solution.status == Status.SOLVED).all()
    for t, (layer, G) in enumerate(zip(tape.layers, _matrices(factors), strict=True)):
        H = torch.kron(G, layer.input.T @ layer.input / batch)  # of weights read row by row
        weight, bias = _gradients(layer)
        expected = -torch.linalg.solve((1 - damping) * H + damping * _identity(H), weight.flatten())
        assert_close(solution.weights[t].dense().flatten(), expected, 1e-11)
        assert_close(solution.biases[t], -torch.linalg.solve((1 - damping) * G + damping * _identity(G), bias), 1e-11)


@every_space
def test_full_factor_is_the_rank_one_where_all_inputs_are_alike(problem, assert_close, batch):
    """E[h h^T] = hbar hbar^T: Eq. (11b) approximates nothing, and both forms have the same iterates."""
    tape = problem(WIDENING, batch=batch).record()
    layers = [replace(layer, input=layer.mean_input.expand_as(layer.input).clone()) for layer in tape.layers]
    rank_one, full = (
        ea_cg(layers, pch(tape), damping=0.05, max_iter=3, tolerance=0, factor=factor) for factor in FACTORS
    )
    for one, other in zip(rank_one.weights, full.weights, strict=True):
        assert_close(other.dense(), one.dense(), 1e-9)
    assert_close(full.residual, rank_one.residual, 1e-6)


@every_space
def test_full_factor_stops_where_cg_on_matrices_would(problem, batch):
    """At the first iterate with ||r|| <= eps ||r_0||, in the norm of matrices, whatever the space."""
    tape, tolerance = problem(WIDENING, batch=batch).record(), 0.05
    solution = ea_cg(tape.layers, fisher(tape), 0.05, max_iter=4, tolerance=tolerance, factor="full")
    for t, (layer, G) in enumerate(zip(tape.layers, _matrices(fisher(tape)), strict=True)):
        operator = _full_operator(layer, G, 0.05)
        residuals = [_textbook_cg(operator, -_gradients(layer)[0], n)[1] for n in range(5)]
        stopped = next((n for n, residual in enumerate(residuals) if residual <= tolerance), 4)
        assert solution.iterations[t, 0] == stopped
        assert solution.status[t, 0] == (Status.SOLVED if residuals[stopped] <= tolerance else Status.MAX_ITERATIONS)


def test_full_factor_says_how_it_went(problem):
    """Negative curvature is met at the first product; a gradient of 0 gives a direction of 0 without iterating."""
    tape = problem().record()
    factors = [Dense(-100 * torch.eye(G.size, dtype=torch.float64)) for G in pch(tape)]
    options = {"damping": 0.01, "max_iter": 10, "tolerance": 1e-6, "factor": "full"}
    assert (ea_cg(tape.layers, factors, **options).status == Status.NEGATIVE_CURVATURE).all()
    still = [replace(layer, delta=torch.zeros_like(layer.delta)) for layer in tape.layers]
    for curvature in (pch(tape), [Gram(layer.delta) for layer in still]):
        solution = ea_cg(still, curvature, **options)
        assert not any(direction.dense().any() for direction in solution.weights)
        assert not solution.iterations.any()
        assert (solution.status == Status.SOLVED).all()


def test_full_factor_of_a_gradient_that_cancels(problem):
    """Inputs that are all alike and deltas with a mean of 0: ||r||^2 is rounding, of either sign."""
    for seed in range(10):
        layer = problem(WIDENING, batch=4, seed=seed).record().layers[0]
        delta, same = layer.delta.float(), layer.mean_input.float().expand(4, -1).clone()
        layer = replace(layer, input=same, delta=delta - delta.mean(0))
        solution = ea_cg([layer], [Gram(layer.delta)], factor="full")
        assert Status.NOT_FINITE not in solution.status
        assert solution.weights[0].dense().norm() < 1e-3 * layer.delta.norm()


def test_full_factor_works_in_the_space_of_the_batch(problem):
    """Where B < I no number of O x I or I x I is made, and of the Fisher matrix none of O x O either."""
    tape = problem((60, 50, 4), batch=6).record()
    for curvature, largest in ((fisher, 6 * 60), (pch, 2 * 6 * 50)):
        factors = curvature(tape)[:1]
        with _Largest() as made:
            ea_cg(tape.layers[:1], factors, factor="full")
        assert made.numbers == largest


# KFI


def _dampings(layer, G, damping):
    """sqrt(a)/pi and pi sqrt(a), with pi^2 = (tr E[h h^T] / I) / (tr G / O)."""
    second_moment = layer.input.T @ layer.input / layer.batch
    pi = math.sqrt(second_moment.trace() / second_moment.shape[0] / (G.trace() / G.shape[0]))
    return math.sqrt(damping) / pi, math.sqrt(damping) * pi


def _kronecker_solve(left, right, gradient):
    """-left^{-1} gradient right^{-1} by a dense solve with the Kronecker product."""
    return -torch.linalg.solve(torch.kron(left, right), gradient.flatten()).view_as(gradient)


def _kfi_oracle(layer, G, damping, right_factor):
    left, right = _dampings(layer, G, damping)
    return _kronecker_solve(
        G + left * _identity(G), right_factor + right * _identity(right_factor), _gradients(layer)[0]
    )


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("batch", [1, 4, 40])
@pytest.mark.parametrize("curvature", [fisher, pch])
@every_form
def test_kfi_is_eq_12(problem, assert_close, inverse, curvature, batch):
    """d = -(G + sqrt(a)/pi I)^{-1} grad (E[h h^T] + pi sqrt(a) I)^{-1}, for B above and below I."""
    tape = problem(batch=batch).record()
    factors = curvature(tape)
    solution = kfi(tape.layers, factors, damping=0.05, inverse=inverse)
    assert (solution.status == Status.SOLVED).all()
    for layer, G, direction in zip(tape.layers, _matrices(factors), solution.weights, strict=True):
        second_moment = layer.input.T @ layer.input / layer.batch
        assert_close(direction.dense(), _kfi_oracle(layer, G, 0.05, second_moment))


@pytest.mark.parametrize("batch", [4, 40])
def test_kfi_gram_is_factor(problem, assert_close, batch):
    """Push-through: grad (E[h h^T] + lam I)^{-1} = delta^T (h h^T + B lam I)^{-1} h."""
    tape = problem(LARGE, batch=batch).record()
    gram, factor = (kfi(tape.layers, fisher(tape), damping=0.01, inverse=inverse) for inverse in ("gram", "factor"))
    for one, other in zip(gram.weights, factor.weights, strict=True):
        assert_close(one.dense(), other.dense())


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("batch", [1, 4, 40])
def test_kfi_rank_one_is_eq_13(problem, assert_close, batch):
    """Eq. (13): hbar hbar^T in place of E[h h^T], whose trace pi keeps; by a dense solve."""
    tape = problem(batch=batch).record()
    factors = pch(tape)
    solution = kfi(tape.layers, factors, damping=0.05, inverse="rank_one")
    for layer, G, direction in zip(tape.layers, _matrices(factors), solution.weights, strict=True):
        hbar = layer.input.mean(0)
        assert_close(direction.dense(), _kfi_oracle(layer, G, 0.05, torch.outer(hbar, hbar)))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("inverse", INVERSES)
def test_kfi_biases(problem, assert_close, inverse):
    """d = -(G + a I)^{-1} grad b."""
    tape = problem().record()
    factors = pch(tape)
    solution = kfi(tape.layers, factors, damping=0.05, inverse=inverse)
    for layer, G, bias in zip(tape.layers, _matrices(factors), solution.biases, strict=True):
        assert_close(bias, -torch.linalg.inv(G + 0.05 * _identity(G)) @ layer.delta.mean(0))
    assert not solution.iterations.any()
    assert solution.residual.isnan().all()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("inverse", INVERSES)
def test_kfi_falls_back_on_the_gradient(problem, assert_close, inverse):
    """Where G + damping is not positive definite, d = -grad and the status says so; the other layers are solved."""
    tape = problem().record()
    factors = pch(tape)
    good = kfi(tape.layers, factors, damping=0.05, inverse=inverse)
    factors[1] = Dense(torch.diag(torch.tensor([9.0, -3, 9, 9, 9, 9, 9], dtype=torch.float64)))
    solution = kfi(tape.layers, factors, damping=0.05, inverse=inverse)
    assert solution.status.tolist() == [[Status.SOLVED] * 2, [Status.FAILED_FACTORIZATION] * 2, [Status.SOLVED] * 2]
    weight, bias = _gradients(tape.layers[1])
    assert_close(solution.weights[1].dense(), -weight)
    assert_close(solution.biases[1], -bias)
    assert torch.equal(solution.weights[0].dense(), good.weights[0].dense())


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("in_batch", [True, False])
def test_kfi_falls_back_on_the_gradient_where_the_other_factor_fails(problem, assert_close, monkeypatch, in_batch):
    """The same where E[h h^T] + damping is not positive definite: biases, which do not need it, are solved."""

    class Broken(Gram):
        def core(self):
            return -1e9 * torch.eye(self.core_size, dtype=torch.float64)

    monkeypatch.setitem(INVERSES, "broken", partial(Broken, in_batch=in_batch))
    tape = problem(batch=4).record()
    solution = kfi(tape.layers, fisher(tape), damping=0.05, inverse="broken")
    assert solution.status.tolist() == [[Status.FAILED_FACTORIZATION, Status.SOLVED]] * 3
    for layer, weight, bias in zip(tape.layers, solution.weights, solution.biases, strict=True):
        gradient, of_bias = _gradients(layer)
        assert_close(weight.dense(), -gradient)
        G = sum(torch.outer(delta, delta) for delta in layer.delta) / 4
        assert_close(bias, -torch.linalg.solve(G + 0.05 * _identity(G), of_bias))


@pytest.mark.parametrize("either_way", ["gpu"], indirect=True)
@pytest.mark.parametrize(("curvature", "count"), [(fisher, 9), (gauss_newton, 9)])
@pytest.mark.usefixtures("either_way")
def test_a_gpu_factorizes_all_small_systems_of_kfi_as_one_batch(problem, monkeypatch, curvature, count):
    """Of all layers, G for two dampings and E[h h^T] for one, in either space."""
    shapes, plain = [], torch.linalg.cholesky_ex
    monkeypatch.setattr(
        torch.linalg, "cholesky_ex", lambda a, **named: shapes.append(tuple(a.shape)) or plain(a, **named)
    )
    tape = problem((60, 50, 7, 4), batch=40).record()
    kfi(tape.layers, curvature(tape))
    assert shapes == [(count, max(shapes[0][1:]), max(shapes[0][1:]))]


class _Largest(TorchDispatchMode):
    """Watches the largest tensor that is made; raises ``error`` where one of ``refused`` numbers is."""

    def __init__(self, refused=None, error=None):
        super().__init__()
        self.numbers, self.refused, self.error = 0, refused, error

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [one.numel() for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
        if self.refused in made:
            raise self.error
        self.numbers = max(self.numbers, *made, 0)
        return result


def test_kfi_never_forms_the_right_factor_unless_told(problem):
    """``exact`` takes the Gram matrix where B < I, and no number of I x I or O x I is made; the factor elsewhere."""
    tape = problem((60, 5, 4), batch=6).record()
    factors = fisher(tape)
    for inverse, largest in (("gram", 6 * 60), ("exact", 6 * 60), ("factor", 60 * 60)):
        with _Largest() as made:
            solution = kfi(tape.layers[:1], factors[:1], damping=0.05, inverse=inverse)
        assert made.numbers == largest
        assert (solution.weights[0].left is None) == (inverse == "factor")
    assert kfi(tape.layers[1:], factors[1:], damping=0.05, inverse="exact").weights[0].left is None  # B > I


OUT_OF_MEMORY = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 90631504896 bytes. Error code 12 (Cannot allocate memory)"
    ),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 84.41 GiB."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cpu", "cuda"])
def test_auto_falls_back_on_rank_one_out_of_memory(problem, error):
    """The paper's way: Eq. (12), and Eq. (13) with a warning where E[h h^T] does not fit."""
    tape = problem((60, 5, 4)).record()
    expected = kfi(tape.layers, fisher(tape), damping=0.05, inverse="rank_one").weights[0]
    warning = pytest.warns(
        UserWarning, match=r"60 x 60 factor .* falling back to rank_one, Eq\. \(13\); inverse='exact'"
    )
    with warning, _Largest(refused=60 * 60, error=error):
        solution = kfi(tape.layers, fisher(tape), damping=0.05, inverse="auto")
    assert torch.equal(solution.weights[0].dense(), expected.dense())
    assert solution.weights[1].left is None  # the factor of the other layer fits


def test_auto_passes_other_errors_on(problem):
    """Only a refused allocation is answered by Eq. (13)."""
    tape = problem((60, 5, 4)).record()
    other = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with _Largest(refused=60 * 60, error=other), pytest.raises(RuntimeError, match="mat1 and mat2"):
        kfi(tape.layers, fisher(tape), damping=0.05, inverse="auto")


def test_kfi_agrees_with_curvlinops(problem, assert_close):
    """Eq. (12): curvlinops' inverse of the empirical KFAC with its heuristic damping, times -grad.

    One operator for the weights and one for the biases: curvlinops damps a bias by sqrt(a)/pi when it shares an
    operator with its weight, and by a, as the paper does, when it is alone.
    """
    curvlinops = pytest.importorskip("curvlinops")
    kfac = pytest.importorskip("curvlinops.kfac")
    case = problem()
    tape = case.record()
    solution = kfi(tape.layers, fisher(tape), damping=0.05, inverse="exact")
    linears = case.network.linears
    for parameters, gradients, directions in [
        (
            [linear.weight for linear in linears],
            [layer.weight_gradient for layer in tape.layers],
            [direction.dense() for direction in solution.weights],
        ),
        ([linear.bias for linear in linears], [layer.bias_gradient for layer in tape.layers], solution.biases),
    ]:
        operator = curvlinops.KFACLinearOperator(
            case.network,
            torch.nn.CrossEntropyLoss(),
            parameters,
            [(case.x, case.labels)],
            fisher_type=kfac.FisherType.EMPIRICAL,
            separate_weight_and_bias=True,
            check_deterministic=False,
        )
        inverse = curvlinops.KFACInverseLinearOperator(operator, damping=0.05, use_heuristic_damping=True)
        with torch.enable_grad():
            products = inverse @ gradients
        for direction, product in zip(directions, products, strict=True):
            assert_close(direction, -product)


# what solvers share


def _ea_cg(layers, factors, factor="rank_one"):
    return ea_cg(layers, factors, damping=0.05, max_iter=100, tolerance=1e-5, factor=factor)


SOLVES = {
    "ea_cg": _ea_cg,
    "ea_cg full": partial(_ea_cg, factor="full"),
    **{f"kfi {form}": partial(kfi, damping=0.05, inverse=form) for form in INVERSES},
}
every_solver = pytest.mark.parametrize("solve", SOLVES.values(), ids=SOLVES)


@pytest.mark.usefixtures("prefers_factors")
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e20])
@every_solver
def test_inputs_out_of_range_are_not_solved(problem, solve, value):
    """NaN, infinity, and in float32 what overflows when it is squared: the layer says so, the others are solved."""
    case = problem()
    case.network.float()
    tape = case.network.record(case.criterion, case.x.float(), case.labels)
    factors = pch(tape)
    tape.layers[1].input[3, 2] = value
    status = solve(tape.layers, factors).status
    assert status[1, 0] == Status.NOT_FINITE
    assert (status[[0, 2]] == Status.SOLVED).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@every_solver
def test_curvature_out_of_range_is_not_solved(problem, solve, value):
    """A solve that met a G of NaN or infinity, for weight and bias, is not solved; KFI may have used the gradient."""
    tape = problem().record()
    factors = pch(tape)
    factors[1].matrix[2, 2] = value
    status = solve(tape.layers, factors).status
    assert all(one in (Status.NOT_FINITE, Status.FAILED_FACTORIZATION) for one in status[1].tolist())
    assert (status[[0, 2]] == Status.SOLVED).all()


@pytest.mark.parametrize("size", [1e-20, 1e-12, 1e-6, 1e-3, 1e3, 1e6, 1e9, 1e12, 1e18, 1e19, 1e25])
@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])
@pytest.mark.parametrize("curvature", [fisher, gauss_newton, pch])
@every_solver
def test_what_is_solved_in_float32_is_what_float64_says(problem, solve, curvature, activation, size):
    """Weights of any size: a direction is within a few percent of the one in float64, or its status is not SOLVED."""
    case = problem(activation=activation)
    for linear in case.network.linears:
        linear.weight.data.mul_(size)
    single = deepcopy(case.network).float().record(case.criterion, case.x.float(), case.labels)
    double = deepcopy(case.network).float().double().record(case.criterion, case.x, case.labels)
    factors = curvature(single)
    found = solve(single.layers, factors)
    for layer, of_double in zip(single.layers, double.layers, strict=True):  # the same system, so that the tape's
        of_double.input, of_double.delta = layer.input.double(), layer.delta.double()  # own rounding does not count
    in_double = [
        Dense(G.matrix.double()) if isinstance(G, Dense) else Gram(layer.delta)
        for G, layer in zip(factors, double.layers, strict=True)
    ]
    expected = solve(double.layers, in_double)
    for t, status in enumerate(found.status.tolist()):
        pairs = (found.weights[t].dense(), expected.weights[t].dense()), (found.biases[t], expected.biases[t])
        for one, (actual, wanted) in zip(status, pairs, strict=True):
            if one == Status.SOLVED and wanted.isfinite().all():
                assert (actual.double() - wanted).norm() <= 0.05 * wanted.norm()


def test_a_solution_that_overflows_is_reported_although_its_residual_is_small(problem):
    """With G = 0 it is -grad / alpha, here about 1e39: CG converges on scaled numbers, and float32 ends at 3e38."""
    layers = problem().record().layers
    largest = max(layer.weight_gradient.abs().amax() for layer in layers)
    case = [replace(one, input=one.input.float(), delta=(one.delta * (1e37 / largest)).float()) for one in layers]
    zero = [Dense(torch.zeros(layer.outputs, layer.outputs)) for layer in case]
    found = ea_cg(case, zero, damping=0.01)
    assert (found.residual <= 0.01).all()
    for weight, bias, status in zip(found.weights, found.biases, found.status, strict=True):
        for one, said in zip((weight.dense(), bias), status.tolist(), strict=True):
            assert one.isfinite().all() or said == Status.NOT_FINITE
    assert not all(weight.dense().isfinite().all() for weight in found.weights)


def test_a_damping_lost_in_rounding_is_reported(problem):
    """In float32, alpha = 0.05 beside a G of 1e8 is rounding: the weight and the bias of that layer say so."""
    tape = problem().record()
    case = [replace(layer, input=layer.input.float(), delta=layer.delta.float()) for layer in tape.layers]
    factors = [Dense(G.dense().float()) for G in fisher(tape)]
    factors[1].matrix.mul_(1e8 / factors[1].trace())
    status = kfi(case, factors, damping=0.05).status
    assert status[1, 1] == Status.ILL_CONDITIONED
    assert (status[[0, 2]] == Status.SOLVED).all()
    factors[1].matrix.mul_(1e8)
    assert (kfi(case, factors, damping=0.05).status[1] == Status.ILL_CONDITIONED).all()


@pytest.mark.usefixtures("prefers_factors")
@pytest.mark.parametrize("batch", [1, 9, 40])
def test_gradient_norm(problem, assert_close, batch):
    """||grad||_F^2 = sum((delta delta^T) * (h h^T)) / B^2, and its root."""
    for layer in problem(batch=batch).record().layers:
        assert_close(layer.gradient_norm, _gradients(layer)[0].norm(), 1e-13)


@pytest.mark.usefixtures("prefers_factors")
@pytest.mark.parametrize("size", [1e-25, 1e-20, 1e-19, 1e-15, 1e17, 1e25])
def test_gradient_norm_of_tiny_and_huge_deltas(problem, assert_close, size):
    """Squares of such numbers are none of float32's, the norm is."""
    layer = problem().record().layers[0]
    single = replace(layer, input=layer.input.float(), delta=(size * layer.delta).float())
    assert_close(single.gradient_norm.double() / size, layer.gradient_norm, 1e-5)


def test_both_regimes_occur(problem):
    """Layers are carried as factors in small batches and as dense matrices in large ones."""
    assert all(layer.prefers_factors for layer in problem(LARGE, batch=2).record().layers)
    assert not any(layer.prefers_factors for layer in problem(LARGE, batch=500).record().layers)


@pytest.mark.parametrize("scale", [0.3, torch.tensor(0.3, dtype=torch.float64)], ids=["number", "tensor"])
@pytest.mark.parametrize("kind", ["dense", "product", "rank-one update"])
def test_a_direction_is_added_in_place(assert_close, kind, scale):
    """W <- W + scale d, and what d is made of stays as it is."""
    generator = torch.Generator().manual_seed(0)
    weight, matrix, square = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    left, (column, _), row, share = matrix[:, :3], matrix.mT[:2], square[0], square[1, :1]
    direction, dense = {
        "dense": (Product(None, matrix), matrix),
        "product": (Product(left, square[:3]), torch.einsum("or,ri->oi", left, square[:3])),
        "rank-one update": (RankOneUpdate(share, matrix, column, row), share * matrix + torch.outer(column, row)),
    }[kind]
    before, address, parts = weight.clone(), weight.data_ptr(), (matrix.clone(), square.clone())
    direction.add_to(weight, scale)
    assert weight.data_ptr() == address
    assert_close(weight, before + 0.3 * dense, 1e-14)
    assert_close(direction.dense(), dense, 1e-14)
    assert torch.equal(matrix, parts[0])
    assert torch.equal(square, parts[1])


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (Status.SOLVED, "below the tolerance"),
        (Status.MAX_ITERATIONS, "raise max_iter, tolerance or damping"),
        (Status.NEGATIVE_CURVATURE, "must be positive semi-definite"),
        (Status.FAILED_FACTORIZATION, "raise damping or use float64"),
        (Status.NOT_FINITE, "use float64"),
        (Status.ILL_CONDITIONED, "raise damping or use float64"),
    ],
)
def test_status_says_what_to_do(status, advice):
    """A status carries its advice, and stands in a tensor as a number."""
    assert advice in status.advice
    assert Status(torch.tensor(status).item()) is status


def test_every_status_has_advice():
    """No status is without a text."""
    assert all(status.advice for status in Status)
