"""The exact mean Hessian in the biases, against autograd and against the curvatures that it bounds."""

import pytest
import torch
from torch.func import functional_call

from optimizers.core import ACTIVATIONS, CRITERIA, pch
from optimizers.core import symmetric as symmetric_module
from optimizers.core.hessian import mean_hessians

every_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def _by_autograd(case):
    """hess_{b^t} of the mean loss, one a layer."""
    parameters = dict(case.network.named_parameters())

    def hessian(name):
        def loss(bias):
            logits = functional_call(case.network, {**parameters, name: bias}, (case.x,))
            return case.criterion.value(logits, case.labels).mean()

        return torch.func.hessian(loss)(parameters[name]).detach()

    return [hessian(name) for name in parameters if name.endswith("bias")]


@every_criterion
@every_activation
@pytest.mark.parametrize("sizes", [(6, 4), (6, 5, 4), (6, 5, 7, 4)])
def test_the_recursion_is_the_hessian(problem, assert_close, sizes, activation, criterion):
    """Eq. (4), averaged, is the Hessian in the biases of the mean loss: nets of one, two and three layers."""
    case = problem(sizes, activation, criterion)
    for mean, oracle in zip(mean_hessians(case.record()), _by_autograd(case), strict=True):
        assert_close(mean, oracle)
        assert not mean.requires_grad


@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 100])
def test_chunks_change_nothing(problem, assert_close, chunk):
    """Chunks that divide the batch, that do not, and that exceed it."""
    case = problem(criterion=CRITERIA["bounded"])
    for mean, oracle in zip(mean_hessians(case.record(), chunk), _by_autograd(case), strict=True):
        assert_close(mean, oracle)


def test_a_chunk_has_a_sample_or_more(problem):
    with pytest.raises(ValueError, match="chunk must be 1 or more, got 0"):
        mean_hessians(problem().record(), chunk=0)


@every_criterion
def test_wide_layers(problem, assert_close, criterion):
    """A first layer whose product runs over several strips."""
    case = problem((5, 2 * symmetric_module.STRIP + 3, 6, 4), "tanh", criterion, batch=3)
    for mean, oracle in zip(mean_hessians(case.record()), _by_autograd(case), strict=True):
        assert_close(mean, oracle)


def test_pch_of_one_sample_whose_curvature_is_positive_is_the_hessian(problem, assert_close):
    """With B = 1 Eq. (8) has nothing to average, and where phi'' * W^T delta >= 0 nothing to repair: softplus, whose
    phi'' is positive, with a W^T delta made so by taking absolute weights towards the labels."""
    case = problem((6, 5, 4), "softplus", batch=1)
    with torch.no_grad():
        delta = case.record().layers[-1].delta[0]
        case.network.linears[-1].weight.abs_().mul_(delta.sign()[:, None])
    tape = case.record()
    assert tape.layers[1].mean_bend.min() > 0
    for G, H in zip([G.dense() for G in pch(tape)], mean_hessians(tape), strict=True):
        assert_close(G, H)
