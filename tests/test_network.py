"""The network, the tape it records, and the activations, against autograd."""

import math

import pytest
import torch

from optimizers.core import ACTIVATIONS, CRITERIA, CROSS_ENTROPY, FCNN
from optimizers.core.activations import from_function


def _swish(z):
    return z * torch.sigmoid(z)


EVERY_ACTIVATION = [*ACTIVATIONS.values(), from_function(_swish, name="swish")]
every_activation = pytest.mark.parametrize("activation", EVERY_ACTIVATION, ids=lambda activation: activation.name)
every_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)


def _preactivations(network, x):
    """z^1, ..., z^k of a forward pass of the test's own, differentiable."""
    h, preactivations = x, []
    for linear, activation in zip(network.linears, [*network.activations, None], strict=True):
        preactivations.append(torch.einsum("oi,bi->bo", linear.weight, h) + linear.bias)
        h = activation and activation.value(preactivations[-1])
    return preactivations


@every_criterion
@every_activation
def test_deltas_are_per_sample_gradients(problem, assert_close, activation, criterion):
    """delta^k = grad_z C and delta^{t-1} = phi'(z^{t-1}) * (W^tT delta^t)."""
    case = problem(activation=activation, criterion=criterion)
    tape = case.record()
    preactivations = _preactivations(case.network, case.x)
    deltas = torch.autograd.grad(criterion.value(preactivations[-1], case.labels).sum(), preactivations)
    assert len(tape.layers) == len(deltas) == 3
    for layer, delta in zip(tape.layers, deltas, strict=True):
        assert_close(layer.delta, delta)


@every_criterion
@every_activation
def test_parameter_gradients(problem, assert_close, activation, criterion):
    """grad W^t = E[delta^t h^{t-1 T}] and grad b^t = E[delta^t], written where backward() would write them."""
    case = problem(activation=activation, criterion=criterion)
    parameters = list(case.network.parameters())
    expected = torch.autograd.grad(criterion.value(case.network(case.x), case.labels).mean(), parameters)
    tape = case.record()
    tape.write_gradients()
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert_close(parameter.grad, gradient)
    for layer, weight_gradient, bias_gradient in zip(tape.layers, expected[::2], expected[1::2], strict=True):
        assert_close(layer.weight_gradient, weight_gradient)
        assert_close(layer.bias_gradient, bias_gradient)


def test_every_hidden_layer_may_have_an_activation_of_its_own(problem, assert_close):
    """delta^{t-1} = phi'(z^{t-1}) * (W^tT delta^t), with the activation of that layer."""
    case = problem((6, 5, 4, 7, 3), activation=("tanh", "linear", ACTIVATIONS["softplus"]))
    assert [activation.name for activation in case.network.activations] == ["tanh", "linear", "softplus"]
    preactivations = _preactivations(case.network, case.x)
    deltas = torch.autograd.grad(CROSS_ENTROPY.value(preactivations[-1], case.labels).sum(), preactivations)
    for layer, delta in zip(case.record().layers, deltas, strict=True):
        assert_close(layer.delta, delta)
    assert_close(case.network(case.x), preactivations[-1])


def test_sparse_initialization():
    """Each unit has 15 weights from the standard normal, or as many as it has inputs; the others are 0."""
    network = FCNN((400, 300, 10, 5), initialization="sparse", dtype=torch.float64, seed=1)
    first, second, last = (linear.weight.detach() for linear in network.linears)
    for weight, count in ((first, 15), (second, 15), (last, 10)):
        assert ((weight != 0).sum(1) == count).all()
    drawn = first[first != 0]
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 1) < 0.05
    assert (first != 0).sum(0).float().std() > 1  # not the same inputs for all
    single = FCNN((400, 300, 10, 5), initialization="sparse", seed=1)
    assert torch.equal(single.linears[0].weight, first.float())
    assert not torch.equal(FCNN((400, 300, 10, 5), initialization="sparse", seed=2).linears[0].weight, first.float())


def test_torchs_initialization(assert_close):
    """As torch.nn.Linear draws its weights: uniform within 1 / sqrt(I), which kaiming_uniform_ spells sqrt(5)."""
    drawn = FCNN((400, 300, 10), initialization="torch", seed=1, dtype=torch.float64).linears[0].weight
    generator = torch.Generator().manual_seed(1)
    assert_close(drawn, torch.nn.init.kaiming_uniform_(torch.empty(300, 400).double(), 5**0.5, generator=generator))


@every_activation
def test_slope_and_bend(assert_close, activation):
    """phi' = dh/dz and phi'' = d2h/dz2, closed forms against torch.func."""
    z = torch.linspace(-6, 6, 49, dtype=torch.float64)  # 0 is among them
    h = activation.value(z)
    first = torch.func.grad(activation.value)
    assert_close(activation.slope(z, h), torch.func.vmap(first)(z), 1e-14)
    assert_close(activation.bend(z, h, activation.slope(z, h)), torch.func.vmap(torch.func.grad(first))(z), 1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_saturated_activations_stay_finite(name):
    """phi' and phi'' vanish or tend to a constant far out, and are never NaN."""
    activation = ACTIVATIONS[name]
    z = torch.tensor([-1e4, 1e4], dtype=torch.float64)
    h = activation.value(z)
    assert activation.slope(z, h).isfinite().all()
    assert activation.bend(z, h, activation.slope(z, h)).abs().max() < 1e-12


def test_layers_carry_what_feeds_them(problem, assert_close):
    """h^{t-1}, phi'(z^{t-1}), W^tT delta^t and hbar belong to layer t; the first layer is fed by the data."""
    case = problem(activation="tanh")
    first, *others = case.record().layers
    assert torch.equal(first.input, case.x)
    assert first.pullback is None
    for layer, z in zip(others, _preactivations(case.network, case.x), strict=False):
        assert_close(layer.input, torch.tanh(z))
        assert_close(layer.slope, 1 - torch.tanh(z) ** 2)
        assert_close(layer.pullback, torch.einsum("oi,bo->bi", layer.weight, layer.delta))
        assert_close(layer.mean_input, torch.tanh(z).sum(0) / 9)


def test_backward_of_other_output_gradients(problem, assert_close):
    """Tape.backward: delta^{t-1} = phi'(z^{t-1}) * (W^tT delta^t) from any delta^k."""
    case = problem()
    tape = case.record()
    for delta, layer in zip(tape.backward(tape.layers[-1].delta), tape.layers, strict=True):
        assert_close(delta, layer.delta)
    other = torch.randn(tape.logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    preactivations = _preactivations(case.network, case.x)
    expected = torch.autograd.grad((preactivations[-1] * other).sum(), preactivations)
    for actual, delta in zip(tape.backward(other), expected, strict=True):
        assert_close(actual, delta)


@every_criterion
def test_loss_is_the_mean_over_the_batch(problem, assert_close, criterion):
    """The loss is E[C], and the logits are those of forward()."""
    case = problem(criterion=criterion)
    tape = case.record()
    assert_close(tape.logits, case.network(case.x))
    values = [criterion.value(logit[None], label[None]) for logit, label in zip(tape.logits, case.labels, strict=True)]
    assert_close(tape.loss, torch.cat(values).mean())


def test_recording_leaves_no_trace(problem):
    """A recorded pass keeps no autograd graph and writes no gradient."""
    case = problem()
    tape = case.record()
    assert not tape.loss.requires_grad
    assert all(parameter.grad is None for parameter in case.network.parameters())


def test_frozen_parameters_get_no_gradient(problem):
    """write_gradients writes where loss.backward() would, which is not where requires_grad is unset."""
    case = problem()
    case.network.linears[0].weight.requires_grad_(False)
    case.record().write_gradients()
    assert case.network.linears[0].weight.grad is None
    assert case.network.linears[0].bias.grad is not None


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        ((0, 6), (0,), "B of 1 or more"),
        ((3, 5), (3,), r"inputs must be \[B, 6\]"),
        ((6,), (6,), r"inputs must be \[B, 6\]"),
        ((3, 6), (2,), r"labels of cross-entropy must be \[3\]"),
        ((3, 6), (3, 1), r"labels of cross-entropy must be \[3\]"),
    ],
)
def test_record_refuses_shapes_that_do_not_fit(problem, x, labels, message):
    """record: inputs [B, n_0] with B >= 1, labels [B]."""
    network = problem().network
    with pytest.raises(ValueError, match=message):
        network.record(CROSS_ENTROPY, torch.zeros(x, dtype=torch.float64), torch.zeros(labels, dtype=torch.int64))


def test_initial_weights_depend_on_the_seed_alone():
    """W^t is uniform within Xavier's bound sqrt(6 / (n_{t-1} + n_t)), b^t = 0, and the global generator has no say."""
    torch.manual_seed(1)
    one = FCNN((40, 30, 10), seed=7)
    torch.manual_seed(2)
    two, other = FCNN((40, 30, 10), seed=7), FCNN((40, 30, 10), seed=8)
    for a, b, c in zip(one.linears, two.linears, other.linears, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)
        assert not a.bias.any()
        bound = math.sqrt(6 / sum(a.weight.shape))
        assert 0.9 * bound < a.weight.abs().max() <= bound


def test_initial_weights_are_the_same_in_every_precision():
    """Those of float64, rounded; also where a weight is drawn in several parts."""
    for sizes in ((40, 30, 10), (2**17, 9, 2)):
        double, single = (FCNN(sizes, seed=3, dtype=dtype) for dtype in (torch.float64, torch.float32))
        for one, other in zip(double.parameters(), single.parameters(), strict=True):
            assert torch.equal(one.float(), other)
    whole = torch.nn.init.xavier_uniform_(torch.empty(9, 2**17).double(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(double.linears[0].weight, whole)


@pytest.mark.parametrize(
    ("sizes", "activation", "message"),
    [
        ((4,), "tanh", "at least two sizes"),
        ((4, 0, 2), "tanh", "each 1 or more"),
        ((4, 2), "cosh", "one of sigmoid, .*'cosh'"),
        ((4, 3, 3, 2), ("tanh",), "one, or 2, one for each hidden layer, got 1"),
    ],
)
def test_network_refuses_misuse(sizes, activation, message):
    """A network has two sizes or more, each of 1 or more, and a known activation."""
    with pytest.raises(ValueError, match=message):
        FCNN(sizes, activation)
    with pytest.raises(ValueError, match="initialization must be one of xavier, sparse, torch, got 'zero'"):
        FCNN((4, 2), initialization="zero")
