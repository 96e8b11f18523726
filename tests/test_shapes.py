"""A wrong shape is found where it is made: the annotations of the core are checked in its tests."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from optimizers.core import ACTIVATIONS, CROSS_ENTROPY, FCNN, SOLVERS, Dense, Product, Solution, bounded, fisher
from optimizers.core.curvature import propagate


@pytest.fixture
def tape(problem):
    return problem((6, 5, 7, 4)).record()


def test_a_curvature_of_the_inputs_is_not_one_of_the_outputs(tape):
    layer = tape.layers[1]
    with pytest.raises(TypeCheckError, match="'G'"):
        propagate(layer, torch.eye(layer.inputs, dtype=torch.float64), None)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_refuses_a_curvature_of_another_shape(tape, name):
    """Without the hook too: the curvature may be a user's, and smaller ones would pass CG unnoticed."""
    factors = fisher(tape)
    factors[1] = Dense(torch.eye(5, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"a layer of 7 outputs needs a curvature of that size, got 5"):
        SOLVERS[name](tape.layers, factors)


def test_a_product_with_its_sides_swapped_is_none(tape):
    direction = SOLVERS["kfi"](tape.layers, fisher(tape), inverse="gram").weights[1]
    with pytest.raises(TypeCheckError, match="'right'"):
        Product(direction.right, direction.left)


@pytest.mark.parametrize("criterion", [CROSS_ENTROPY, bounded()])
def test_a_criterion_has_one_value_and_one_gradient_a_sample(problem, criterion):
    p = problem((6, 4))
    with pytest.raises(TypeCheckError, match="'labels'"):
        criterion.value(torch.randn(9, 4), p.labels[:1])
    summed = replace(criterion, gradient=lambda logits, labels: criterion.gradient(logits, labels).sum(1))
    with pytest.raises(TypeCheckError, match="'delta'"):
        p.network.record(summed, p.x, p.labels)


def test_a_slope_has_an_entry_for_each_input(problem):
    p = problem()
    flat = replace(ACTIVATIONS["sigmoid"], slope=lambda z, h: h.mean(1, keepdim=True))
    with pytest.raises(TypeCheckError, match="slope"):
        FCNN((6, 5, 4), flat, dtype=torch.float64).record(CROSS_ENTROPY, p.x, p.labels)


def test_a_solution_has_numbers_for_weight_and_bias(tape):
    solution = SOLVERS["kfi"](tape.layers, fisher(tape))
    with pytest.raises(TypeCheckError, match="'residual'"):
        Solution(solution.weights, solution.biases, solution.iterations, solution.residual[:, 0], solution.status)
