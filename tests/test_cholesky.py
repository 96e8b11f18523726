"""Damped solves against dense ones, below and above the size of a block."""

import pytest
import torch

from optimizers.core.cholesky import solve_damped


@pytest.mark.parametrize("size", [1, 7, 128, 129, 300])
def test_solve_damped_is_a_dense_solve(size):
    """(M + damping I)^-1 right, with x drawn and right = (M + damping I) x built from it."""
    generator = torch.Generator().manual_seed(size)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, damping = root @ root.T / size, torch.tensor(0.3, dtype=torch.float64)
    x = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    before = matrix.clone()
    solution, info = solve_damped(matrix, damping, matrix @ x + damping * x)
    assert info == 0
    assert (solution - x).norm() <= 1e-12 * x.norm()
    assert torch.equal(matrix, before)


@pytest.mark.parametrize("position", [0, 130, 299])
def test_an_indefinite_matrix_gives_the_right_hand_side_back(position):
    """Whichever block meets the negative pivot, the failure is reported."""
    matrix = torch.eye(300, dtype=torch.float64)
    matrix[position, position] = -2.0
    right = torch.ones(300, 1, dtype=torch.float64)
    solution, info = solve_damped(matrix, 0.5, right)
    assert info != 0
    assert torch.equal(solution, right)
