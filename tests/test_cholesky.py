"""Damped solves against dense ones: by LAPACK, by blocks with its factor, and all by blocks."""

import pytest
import torch

from optimizers.core.cholesky import solve_damped


@pytest.mark.parametrize(
    ("size", "many"), [(1, 4), (7, 300), (96, 4), (97, 300), (300, 4), (300, 257), (600, 4), (600, 300)]
)
def test_solve_damped_is_a_dense_solve(size, many):
    """(M + damping I)^-1 right, with x drawn and right = (M + damping I) x built from it."""
    generator = torch.Generator().manual_seed(size)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, damping = root @ root.T / size, torch.tensor(0.3, dtype=torch.float64)
    x = torch.randn(size, many, generator=generator, dtype=torch.float64)
    before = matrix.clone()
    right = matrix @ x + damping * x
    given = right.clone()
    solution, info = solve_damped(matrix, damping, right)
    assert info == 0
    assert (solution - x).norm() <= 1e-12 * x.norm()
    assert torch.equal(matrix, before)
    assert torch.equal(right, given)


@pytest.mark.parametrize("position", [0, 130, 299, 590])
@pytest.mark.parametrize("many", [1, 300])
def test_an_indefinite_matrix_is_reported(position, many):
    """Whichever block meets the negative pivot."""
    matrix = torch.eye(600 if position > 299 else 300, dtype=torch.float64)
    matrix[position, position] = -2.0
    _, info = solve_damped(matrix, 0.5, torch.ones(len(matrix), many, dtype=torch.float64))
    assert info != 0
