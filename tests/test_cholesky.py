"""Damped solves against dense ones: by LAPACK, by blocks with its factor, and all by blocks."""

import pytest
import torch

from optimizers.core.solvers.cholesky import solve_damped


@pytest.mark.parametrize(
    ("size", "many"), [(1, 4), (7, 300), (96, 4), (97, 300), (300, 4), (300, 257), (600, 4), (600, 300)]
)
def test_solve_damped_is_a_dense_solve(size, many):
    """(M + damping I)^-1 right of two systems, with x drawn and right = (M + damping I) x built from it."""
    generator = torch.Generator().manual_seed(size)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, dampings = root @ root.T / size, (torch.tensor(0.3, dtype=torch.float64), 1.5)
    x = [torch.randn(size, columns, generator=generator, dtype=torch.float64) for columns in (many, 1)]
    before = matrix.clone()
    right = [matrix @ one + damping * one for one, damping in zip(x, dampings, strict=True)]
    given = [one.clone() for one in right]
    solved = solve_damped(matrix, *zip(dampings, right, strict=True))
    for (solution, info), one in zip(solved, x, strict=True):
        assert info == 0
        assert (solution - one).norm() <= 1e-12 * one.norm()
    assert torch.equal(matrix, before)
    assert all(torch.equal(one, other) for one, other in zip(right, given, strict=True))


@pytest.mark.parametrize("position", [0, 130, 299, 590])
@pytest.mark.parametrize("many", [1, 300])
def test_an_indefinite_matrix_is_reported(position, many):
    """Whichever block meets the negative pivot, and of that system alone."""
    matrix = torch.eye(600 if position > 299 else 300, dtype=torch.float64)
    matrix[position, position] = -2.0
    right = torch.ones(len(matrix), many, dtype=torch.float64)
    (_, info), (_, other) = solve_damped(matrix, (0.5, right), (2.5, right))
    assert info != 0
    assert other == 0
