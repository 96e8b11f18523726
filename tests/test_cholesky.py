"""Damped solves against dense ones: by LAPACK, by blocks with its factor, and all by blocks."""

import pytest
import torch

from optimizers.core import cholesky
from optimizers.core.cholesky import Request, factorize


@pytest.mark.parametrize(
    ("size", "many"), [(1, 4), (7, 300), (96, 4), (97, 300), (300, 4), (300, 257), (600, 4), (600, 300)]
)
def test_a_factor_solves_as_a_dense_solve_does(size, many):
    """(M + damping I)^-1 right of two systems, with x drawn and right = (M + damping I) x built from it."""
    generator = torch.Generator().manual_seed(size)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, dampings = root @ root.T / size, (torch.tensor(0.3, dtype=torch.float64), 1.5)
    x = [torch.randn(size, columns, generator=generator, dtype=torch.float64) for columns in (many, 1)]
    before = matrix.clone()
    right = [matrix @ one + damping * one for one, damping in zip(x, dampings, strict=True)]
    given = [one.clone() for one in right]
    (factors,) = factorize([Request(size, lambda: matrix, dampings)])
    for factor, given_side, one in zip(factors, right, x, strict=True):
        assert factor.info == 0
        assert (factor.solve(given_side) - one).norm() <= 1e-12 * one.norm()
    assert torch.equal(matrix, before)
    assert all(torch.equal(one, other) for one, other in zip(right, given, strict=True))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """A CPU takes the ways of a GPU."""
    monkeypatch.setattr(cholesky, "on_gpu", lambda matrix: True)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("sizes", [(30, 5, 100, 1, 100), (7,), (600,), (600, 3, 600)])
def test_a_gpu_solves_as_a_dense_solve_does(sizes, monkeypatch):
    """Small matrices padded to one batch, whose factors are inverted at once; large ones for themselves."""
    generator = torch.Generator().manual_seed(0)
    roots = [torch.randn(size, size, generator=generator, dtype=torch.float64) for size in sizes]
    matrices, calls = [root @ root.T / len(root) for root in roots], []
    plain = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda a, **named: calls.append(a.shape) or plain(a, **named))
    requests = [
        Request(len(one), lambda one=one: one, (0.1, torch.tensor(2.0, dtype=torch.float64))) for one in matrices
    ]
    found = factorize(requests, padded=128)
    small, large = [size for size in sizes if size <= 128], [size for size in sizes if size > 128]
    batched = [(2 * len(small), max(small), max(small))] if small else []
    alone = [(600, 600)] * 2 if len(large) == 1 else [(2 * len(large), 600, 600)] * bool(large)
    assert sorted(calls) == sorted(batched + alone)
    for one, request, factors in zip(matrices, requests, found, strict=True):
        for damping, factor in zip(request.dampings, factors, strict=True):
            assert factor.info == 0
            for columns in (1, 300):
                x = torch.randn(len(one), columns, generator=generator, dtype=torch.float64)
                assert (factor.solve(one @ x + damping * x) - x).norm() <= 1e-12 * x.norm()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_an_indefinite_matrix_of_a_padded_batch_is_reported_alone():
    matrices = [torch.eye(size, dtype=torch.float64) for size in (20, 3, 20)]
    matrices[1][2, 2] = -2.0
    found = factorize([Request(len(one), lambda one=one: one, (0.5, 2.5)) for one in matrices], padded=128)
    assert [[int(factor.info != 0) for factor in factors] for factors in found] == [[0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize("position", [0, 130, 299, 590])
def test_an_indefinite_matrix_is_reported(position):
    """Whichever block meets the negative pivot, and of that system alone."""
    matrix = torch.eye(600 if position > 299 else 300, dtype=torch.float64)
    matrix[position, position] = -2.0
    ((one, other),) = factorize([Request(len(matrix), lambda: matrix, (0.5, 2.5))])
    assert one.info != 0
    assert other.info == 0


def test_requests_of_one_size_are_one_batch(monkeypatch):
    """And each keeps its place, among those of other sizes."""
    generator = torch.Generator().manual_seed(0)
    roots = [torch.randn(size, size, generator=generator, dtype=torch.float64) for size in (30, 5, 30, 5, 30)]
    matrices, batches = [root @ root.T for root in roots], []
    plain = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda a, **named: batches.append(len(a)) or plain(a, **named))
    requests = [Request(len(one), lambda one=one: one, (0.1, 2.0)[: 1 + t % 2]) for t, one in enumerate(matrices)]
    found = factorize(requests)
    assert sorted(batches) == [3, 4]
    for one, request, factors in zip(matrices, requests, found, strict=True):
        for damping, factor in zip(request.dampings, factors, strict=True):
            x = torch.ones(len(one), 2, dtype=torch.float64)
            assert (factor.solve(one @ x + damping * x) - x).norm() <= 1e-11
