"""Operators: products, traces and damped solves against dense matrices, in both spaces."""

import pytest
import torch

from optimizers.core import Dense, Gram, Product
from optimizers.core.counts import batch_is_smaller, dense_is_cheaper
from optimizers.core.operators import cheapest, damped, stacked

SHAPES = [(4, 9), (9, 4), (7, 7), (130, 300)]  # B and n


def rows_of(batch, size, seed=0):
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_of(rows):
    """The mean of r r^T, a sample at a time."""
    return sum(torch.outer(row, row) for row in rows) / len(rows)


def operators(rows):
    """Every operator that is the same matrix."""
    return {
        "dense": Dense(matrix_of(rows)),
        "gram": Gram(rows),
        "gram in the batch": Gram(rows, in_batch=True),
        "gram in the width": Gram(rows, in_batch=False),
    }


@pytest.mark.parametrize(("batch", "size"), SHAPES)
@pytest.mark.parametrize("name", operators(rows_of(2, 2)))
def test_an_operator_is_its_matrix(assert_close, name, batch, size):
    rows, vectors = rows_of(batch, size), rows_of(3, size, seed=1)
    G, matrix = operators(rows)[name], matrix_of(rows)
    assert G.size == size
    assert_close(G.dense(), matrix)
    assert_close(G.product(vectors), vectors @ matrix)
    assert_close(G.trace(), matrix.trace())
    assert_close(G.diagonal(), matrix.diagonal())


@pytest.mark.parametrize(("batch", "size"), SHAPES)
@pytest.mark.parametrize("name", operators(rows_of(2, 2)))
def test_damped_solves_are_dense_solves(assert_close, name, batch, size):
    """Of the rows themselves, of combinations of them, and of other rows; two dampings of one operator."""
    rows = rows_of(batch, size)
    G, matrix = operators(rows)[name], matrix_of(rows)
    rights = Product(None, rows), Product(rows_of(5, batch, seed=2), rows), Product(None, rows_of(6, size, seed=3))
    for damping, one in zip(
        (0.01, torch.tensor(3.0, dtype=torch.float64)), G.damped(0.01, torch.tensor(3.0)), strict=True
    ):
        assert one.info == 0
        for right in rights:
            expected = torch.linalg.solve(matrix + damping * torch.eye(size, dtype=torch.float64), right.dense().T).T
            assert_close(one.solve(right).dense(), expected, 1e-10)


def test_a_combination_of_the_rows_stays_one():
    """Nothing of the width of the operator is formed for it."""
    rows = rows_of(4, 50)
    solved = Gram(rows).damped(0.1)[0].solve(Product(rows_of(3, 4), rows))
    assert solved.right is rows


def test_the_smaller_space_is_solved_in():
    assert [Gram(rows_of(*shape)).core().shape[0] for shape in SHAPES] == [4, 4, 7, 130]
    assert [batch_is_smaller(*shape) for shape in SHAPES] == [True, False, False, True]


def test_operators_of_many_layers_are_damped_together(assert_close):
    """Each comes back at its place, with its own dampings, whichever shared its batch."""
    layers = [Gram(rows_of(4, 9)), Dense(matrix_of(rows_of(4, 6))), Gram(rows_of(4, 7, seed=5))]
    found = damped([(G, (0.1 * t + 0.1, 2.0)) for t, G in enumerate(layers)])
    for t, (G, of_one) in enumerate(zip(layers, found, strict=True)):
        for damping, one in zip((0.1 * t + 0.1, 2.0), of_one, strict=True):
            right = G.rows if isinstance(G, Gram) else rows_of(2, 6)
            expected = torch.linalg.solve(G.dense() + damping * torch.eye(G.size, dtype=torch.float64), right.T).T
            assert_close(one.solve(Product(None, right)).dense(), expected, 1e-10)


def test_the_cheaper_form_multiplies():
    """A narrow Gram matrix is formed, and a wide one of a small batch is not."""
    assert isinstance(cheapest(Gram(rows_of(9, 20)), products=20), Dense)
    wide = Gram(rows_of(9, 300))
    assert cheapest(wide, products=20) is wide
    assert not dense_is_cheaper(100, 1024, 20)
    assert dense_is_cheaper(1000, 129, 1000)


def test_neighbours_are_stacked_for_one_product(assert_close):
    """Smaller matrices are padded; a Gram matrix stays alone."""
    parts = [Gram(rows_of(3, 300)), *(Dense(matrix_of(rows_of(5, size))) for size in (8, 6, 6))]
    (first, gram), (others, batch) = stacked(parts)
    assert (first, others) == (slice(0, 1), slice(1, 4))
    assert gram is parts[0]
    vectors = rows_of(6, 8).view(3, 2, 8)
    for G, row, product in zip(parts[1:], vectors, batch.product(vectors), strict=True):
        assert_close(product[:, : G.size], G.product(row[:, : G.size]))
