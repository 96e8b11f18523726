"""The expectation approximation, Eq. (6), and its bound, Eq. (7), against autograd's Hessian of every sample."""

import math

import pytest
import torch
from torch.func import functional_call, hessian

from optimizers.core import ACTIVATIONS, CRITERIA
from optimizers.core.activations import from_function
from optimizers.core.expectation import expectation
from optimizers.core.hessian import mean_hessians

# the paper's: with the other criteria, or without a bend, the Hessians of the samples are alike
every_criterion = pytest.mark.parametrize(
    "criterion", [CRITERIA["cross-entropy"], CRITERIA["bounded"]], ids=lambda one: one.name
)
every_activation = pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "linear"])


def _sides(case, t, lipschitz):
    """Both sides of Eq. (7) for layer t, their roots, entry by entry: nothing but the definitions."""
    parameters = dict(case.network.named_parameters())
    name = [name for name in parameters if name.endswith("bias")][t + 1]

    def loss(bias, x, label):
        logits = functional_call(case.network, {**parameters, name: bias}, (x[None],))
        return case.criterion.value(logits, label[None])[0]

    samples = zip(case.x, case.labels, strict=True)
    H = torch.stack([hessian(loss)(parameters[name], *sample).detach() for sample in samples])
    layer = case.record().layers[t + 1]
    X = layer.weight.T @ H @ layer.weight
    Y = layer.slope[:, :, None] * layer.slope[:, None, :]
    error = ((X * Y).mean(0) - X.mean(0) * Y.mean(0)).norm()
    bound = lipschitz**2 * X.var(0, correction=0).sum().sqrt()
    return error.item(), bound.item()


@every_criterion
@every_activation
@pytest.mark.parametrize("sizes", [(6, 5, 4), (6, 5, 7, 4), (6, 9, 3, 8, 4)])
def test_both_sides_are_those_of_autograd(problem, sizes, activation, criterion):
    case = problem(sizes, activation, criterion)
    found = expectation(case.record())
    assert len(found.errors) == len(found.bounds) == len(sizes) - 2
    for t, sides in enumerate(zip(found.errors, found.bounds, strict=True)):
        assert sides == pytest.approx(_sides(case, t, ACTIVATIONS[activation].lipschitz), rel=1e-9, abs=1e-15)


@every_criterion
@every_activation
def test_the_error_never_exceeds_its_bound(problem, activation, criterion):
    """Nor half of it, as no slope is negative."""
    for seed in range(20):
        found = expectation(problem((6, 8, 7, 5, 4), activation, criterion, batch=2 + seed, seed=seed).record())
        assert min(found.errors) > 0
        for error, bound in zip(found.errors, found.bounds, strict=True):
            assert error <= bound / 2 * (1 + 1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 100])
def test_chunks_change_nothing(problem, assert_close, chunk):
    tape = problem(criterion=CRITERIA["bounded"]).record()
    whole, parts = expectation(tape, len(tape.labels)), expectation(tape, chunk)
    assert parts.bounds == pytest.approx(whole.bounds, rel=1e-12)
    assert parts.errors == pytest.approx(whole.errors, rel=1e-9)
    for mean, expected in zip(parts.means, mean_hessians(tape), strict=True):
        assert_close(mean, expected)


@every_criterion
def test_one_sample_has_no_variance(problem, criterion):
    found = expectation(problem(criterion=criterion, batch=1).record())
    assert found.bounds == [0, 0]
    assert max(found.errors) < 1e-16


@pytest.mark.parametrize("chunk", [4, 100])
def test_a_small_variance_survives_float32(problem, chunk):
    """Samples alike to 1e-4, of which the squares differ by 1e-8: a mean of squares less a squared mean is noise."""
    case = problem(batch=40)
    case.x.mul_(1e-4).add_(case.x[:1].clone())
    case.labels.zero_()
    exact = expectation(case.record()).bounds
    single = case.network.float().record(case.criterion, case.x.float(), case.labels)
    assert expectation(single, chunk).bounds == pytest.approx(exact, rel=1e-2)


@every_activation
def test_lipschitz_constants_are_the_largest_slopes(activation):
    z = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    known = ACTIVATIONS[activation]
    slopes = known.slope(z, known.value(z))
    assert slopes.min() >= 0
    assert known.lipschitz == pytest.approx(slopes.max().item(), rel=1e-8)


def test_an_activation_of_ones_own_has_no_bound(problem):
    """Nobody knows its Lipschitz constant; the error is there all the same."""
    found = expectation(problem(activation=from_function(torch.sin)).record())
    assert all(map(math.isnan, found.bounds))
    assert min(found.errors) > 0
