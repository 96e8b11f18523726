"""Optimizers: updates against torch and against solvers called by hand, parameter groups, refusals, and learning."""

import io
import pickle
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits

from optimizers import EACG, KFAC, KFRA, SGD
from optimizers.core import (
    ACTIVATIONS,
    CRITERIA,
    CROSS_ENTROPY,
    CURVATURES,
    FCNN,
    SOLVERS,
    SecondOrder,
    bounded,
    ea_cg,
    fisher,
    gauss_newton,
    kfi,
    pch,
)
from optimizers.core.curvature import sampled_fisher

OPTIONS = {"kfi": {"damping": 0.1, "inverse": "exact"}, "ea_cg": {"damping": 0.1, "max_iter": 10, "tolerance": 1e-2}}
NAMED = {"SGD": SGD, "KFAC": KFAC, "KFRA": KFRA, "EACG": EACG}
every_named = pytest.mark.parametrize("build", NAMED.values(), ids=NAMED)
every_second_order = pytest.mark.parametrize("build", [KFAC, KFRA, EACG])


@pytest.fixture(scope="module")
def digits():
    """200 real images, [200, 64] in [0, 1], with their labels."""
    data = load_digits()
    return torch.tensor(data.data[:200] / 16), torch.tensor(data.target[:200])


def _copies(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def _moved(case, build, trained):
    """Names of the parameters that one step changes, of an optimizer of those whose name begins with ``trained``."""
    named = dict(case.network.named_parameters())
    before = _copies(named.values())
    build([parameter for name, parameter in named.items() if name.startswith(trained)]).step(case.record())
    return {name for name, start in zip(named, before, strict=True) if not torch.equal(named[name], start)}


# updates


def test_sgd_is_torch_sgd(digits, assert_close):
    """m <- momentum m + grad, theta <- theta - lr m, over steps on changing batches, in two groups."""
    x, labels = digits
    ours, theirs = (FCNN((64, 12, 10), seed=1, dtype=torch.float64) for _ in range(2))

    def groups(network):
        first, last = network.linears
        return [
            {"params": [first.weight, last.bias], "lr": 0.3, "momentum": 0.5},
            {"params": [first.bias, last.weight]},
        ]

    optimizer = SGD(groups(ours), lr=0.1, momentum=0.9)
    reference = torch.optim.SGD(groups(theirs), lr=0.1, momentum=0.9)
    for start in range(0, 200, 20):
        batch = x[start : start + 20], labels[start : start + 20]
        optimizer.step(ours.record(CROSS_ENTROPY, *batch))
        reference.zero_grad()
        torch.nn.functional.cross_entropy(theirs(batch[0]), batch[1]).backward()
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(one.detach(), other.detach())


def test_sgd_asks_for_no_second_derivative(problem):
    """A step of SGD touches neither hess_z C nor phi''."""

    def refuse(*arguments):
        raise AssertionError("a second derivative was asked for")

    activation = replace(ACTIVATIONS["tanh"], bend=refuse)
    case = problem(activation=activation, criterion=replace(CROSS_ENTROPY, mean_hessian=refuse))
    SGD(case.network.parameters()).step(case.record())
    with pytest.raises(AssertionError, match="second derivative"):
        EACG(case.network.parameters()).step(case.record())


@pytest.mark.parametrize(
    ("build", "curvature", "solver"),
    [
        (KFAC, fisher, partial(kfi, damping=0.02, inverse="exact")),
        (KFRA, gauss_newton, partial(kfi, damping=0.02, inverse="exact")),
        (EACG, partial(pch, gamma=-1), partial(ea_cg, damping=0.02, max_iter=10, tolerance=1e-2)),
        (partial(EACG, gamma=0), partial(pch, gamma=0), partial(ea_cg, damping=0.02, max_iter=10, tolerance=1e-2)),
    ],
    ids=["KFAC", "KFRA", "EACG-1", "EACG-2"],
)
def test_named_optimizers_compose_curvature_and_solver(problem, assert_close, build, curvature, solver):
    """theta <- theta + lr d, with d of the named curvature and solver, by hand."""
    case = problem()
    parameters = list(case.network.parameters())
    tape, before = case.record(), _copies(parameters)
    solution = solver(tape.layers, curvature(tape))
    directions = [d for pair in zip(solution.weights, solution.biases, strict=True) for d in (pair[0].dense(), pair[1])]
    build(parameters, lr=0.3, damping=0.02).step(case.record())
    for parameter, start, direction in zip(parameters, before, directions, strict=True):
        assert_close(parameter.detach(), start + 0.3 * direction.detach())


def test_parameter_groups_have_options_of_their_own(problem, assert_close):
    """Each parameter is solved with the damping of its own group and moves at that group's learning rate."""
    case = problem()
    first, middle, last = case.network.linears
    groups = [
        {"params": [last.weight, first.weight, first.bias], "lr": 0.2, "damping": 0.5},
        {"params": [middle.bias, middle.weight, last.bias]},
    ]
    tape, before = case.record(), _copies(case.network.parameters())
    factors = fisher(tape)
    optimizer = KFAC(groups, lr=0.1, damping=0.01)
    optimizer.step(case.record())
    first_group, second_group = (0.2, 0.5), (0.1, 0.01)
    owners = [(first_group, first_group), (second_group, second_group), (first_group, second_group)]
    for t, ((weight_rate, weight_damping), (bias_rate, bias_damping)) in enumerate(owners):
        linear, layer = case.network.linears[t], tape.layers[t : t + 1]
        weight = kfi(layer, factors[t : t + 1], weight_damping, "exact").weights[0].dense()
        bias = kfi(layer, factors[t : t + 1], bias_damping, "exact").biases[0]
        assert_close(linear.weight.detach(), before[2 * t] + weight_rate * weight)
        assert_close(linear.bias.detach(), before[2 * t + 1] + bias_rate * bias)
    assert [solution.status.shape for solution in optimizer.solutions] == [(2, 2), (2, 2)]


@every_named
@pytest.mark.parametrize(
    ("trained", "moved"),
    [("layers.1", {"layers.1.weight", "layers.1.bias"}), ("layers.1.weight", {"layers.1.weight"})],
)
def test_parameters_outside_the_groups_stay(problem, build, trained, moved):
    """What is in a group moves, and nothing else does, not even the bias of a weight that moves."""
    assert _moved(problem(), build, trained) == moved


@every_second_order
def test_a_bias_moves_without_its_weight(problem, build):
    """Every parameter that is both on the tape and in a group is updated: a bias too, whose weight is in none."""
    assert _moved(problem(), build, "layers.1.bias") == {"layers.1.bias"}


@every_named
def test_parameters_without_requires_grad_stay(problem, build):
    """Frozen the other way of PyTorch's: in a group, but with requires_grad unset."""
    case = problem()
    case.network.linears[0].requires_grad_(False)
    assert not _moved(case, build, "layers") & {"layers.0.weight", "layers.0.bias"}


def test_solutions_report_the_solves(problem):
    """After a step: one solution a group, a row a layer, a column for weight and bias; of the last step only."""
    case = problem()
    optimizer = EACG(case.network.parameters(), max_iter=2, tolerance=1e-8)
    assert optimizer.solutions == []
    for _ in range(2):
        optimizer.step(case.record())
        (solution,) = optimizer.solutions
        for report in (solution.iterations, solution.residual, solution.status):
            assert report.shape == (3, 2)
        assert solution.weights == solution.biases == []  # which would be held until the next step
        assert (solution.iterations == 2).all()
        assert (solution.residual > 1e-8).all()


@every_named
@pytest.mark.parametrize("copy", [deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deepcopy", "pickle"])
def test_a_copy_keeps_what_the_optimizer_has(problem, build, copy):
    """Groups with their options, and the ranges that a group added later is held to."""
    copied = copy(build(problem().network.parameters(), lr=0.3))
    assert copied.param_groups[0]["lr"] == 0.3
    with pytest.raises(ValueError, match="lr must be above 0, got -1"):
        copied.add_param_group({"params": [torch.zeros(1)], "lr": -1})


# refusals


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (SGD, {"lr": 0}, "lr must be above 0, got 0"),
        (SGD, {"lr": -0.1}, "lr must be above 0, got -0.1"),
        (SGD, {"lr": float("inf")}, "lr must be above 0, got inf"),
        (KFAC, {"lr": float("nan")}, "lr must be above 0, got nan"),
        (SGD, {"momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
        (SGD, {"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        (KFAC, {"damping": 0}, r"damping must be in \(0, 1\), got 0"),
        (KFRA, {"damping": 1.5}, r"damping must be in \(0, 1\), got 1.5"),
        (EACG, {"damping": float("nan")}, r"damping must be in \(0, 1\), got nan"),
        (EACG, {"gamma": 0.5}, r"gamma must be in \[-1, 0\], got 0.5"),
        (EACG, {"gamma": -2}, r"gamma must be in \[-1, 0\], got -2"),
        (EACG, {"max_iter": 0}, "max_iter must be a whole number of 1 or more, got 0"),
        (EACG, {"max_iter": 2.5}, "max_iter must be a whole number of 1 or more, got 2.5"),
        (EACG, {"tolerance": -1e-3}, r"tolerance must be in \[0, 1\), got -0.001"),
        (EACG, {"tolerance": 1}, r"tolerance must be in \[0, 1\), got 1"),
        (KFAC, {"inverse": "cheap"}, "inverse must be one of exact, factor, gram, rank_one, auto, got 'cheap'"),
        (KFRA, {"inverse": None}, "inverse must be one of exact, .*, got None"),
        (KFAC, {"labels": "true"}, "labels must be one of batch, sampled, exact, got 'true'"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(problem, build, arguments, message):
    """Refused at construction, with the range and what was given."""
    with pytest.raises(ValueError, match=message):
        build(problem().network.parameters(), **arguments)


@every_named
def test_groups_out_of_range_are_refused(problem, build):
    """A group's own hyper-parameter is held to the same range, at construction and when it is added later."""
    first, *others = problem().network.linears
    with pytest.raises(ValueError, match="lr must be above 0, got -1"):
        build([{"params": first.parameters(), "lr": -1}])
    optimizer = build(first.parameters())
    with pytest.raises(ValueError, match="lr must be above 0, got -1"):
        optimizer.add_param_group({"params": others[0].parameters(), "lr": -1})


@pytest.mark.parametrize(
    "build",
    [KFRA, partial(SecondOrder, lr=0.1, curvature=CURVATURES["gauss_newton"], solver=SOLVERS["ea_cg"])],
    ids=["KFRA", "SecondOrder"],
)
def test_gauss_newton_refuses_the_bounded_criterion_at_construction(problem, build):
    """A criterion that is not convex is refused before the first step, with what to use instead."""
    with pytest.raises(ValueError, match="'bounded' is not convex: use PCH"):
        build(problem().network.parameters(), criterion=bounded())


def test_kfra_refuses_a_tape_of_the_bounded_criterion(problem):
    """One that was not announced is refused at the first step, and nothing has moved."""
    case = problem(criterion=bounded())
    before = _copies(case.network.parameters())
    with pytest.raises(ValueError, match="'bounded' is not convex"):
        KFRA(case.network.parameters()).step(case.record())
    assert all(torch.equal(one, other) for one, other in zip(before, case.network.parameters(), strict=True))


# learning


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("criterion", "curvature"),
    [
        (criterion, curvature)
        for criterion in CRITERIA
        for curvature in CURVATURES
        if CRITERIA[criterion].convex or curvature != "gauss_newton"
    ],
)
def test_every_combination_learns(digits, criterion, curvature, solver):
    """Any curvature with any solver lowers the loss of real images, step by step."""
    network = FCNN((64, 20, 10), dtype=torch.float64)
    chosen = CRITERIA[criterion]
    optimizer = SecondOrder(
        network.parameters(),
        lr=0.1,
        curvature=CURVATURES[curvature],
        solver=SOLVERS[solver],
        criterion=chosen,
        **OPTIONS[solver],
    )
    images, labels = digits
    targets = torch.eye(10, dtype=torch.float64)[labels] if chosen.vectors else labels
    losses = []
    for _ in range(6):
        tape = network.record(chosen, images, targets)
        losses.append(tape.loss.item())
        optimizer.step(tape)
    assert all(after < before for before, after in pairwise(losses)), losses


# the Fisher matrix with sampled labels


def test_sampled_labels_are_those_of_the_model(problem, assert_close):
    """KFAC(labels="sampled") solves with the sampled Fisher matrix, drawn anew at every step."""
    case = problem()
    optimizer = KFAC(case.network.parameters(), labels="sampled")
    for step in (1, 2):
        tape, before = case.record(), _copies(case.network.parameters())
        factors = sampled_fisher(tape, torch.Generator().manual_seed(step))
        solution = kfi(tape.layers, factors, 0.01, "exact")
        optimizer.step(case.record())
        for t, linear in enumerate(case.network.linears):
            assert_close(linear.weight.detach(), before[2 * t] + 0.1 * solution.weights[t].dense().detach())


def test_sampled_labels_resume_bit_for_bit(digits):
    """A run restored from its state_dict draws what the first would have drawn: weights agree to the bit."""
    x, labels = digits

    def train(network, optimizer, batches):
        for batch in batches:
            optimizer.step(network.record(CROSS_ENTROPY, x[batch], labels[batch]))

    batches = list(torch.arange(180).split(30))
    network = FCNN((64, 12, 10), dtype=torch.float64)
    optimizer = KFAC(network.parameters(), labels="sampled")
    train(network, optimizer, batches[:3])
    checkpoint = io.BytesIO()
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
    train(network, optimizer, batches[3:])

    checkpoint.seek(0)
    stored = torch.load(checkpoint)
    resumed = FCNN((64, 12, 10), seed=5, dtype=torch.float64)
    resumed.load_state_dict(stored["network"])
    restored = KFAC(resumed.parameters(), labels="sampled")
    fresh = KFAC(resumed.parameters(), labels="sampled")
    restored.load_state_dict(stored["optimizer"])
    train(resumed, restored, batches[3:])
    for one, other in zip(network.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)

    resumed.load_state_dict(stored["network"])
    train(resumed, fresh, batches[3:])  # without its state, the run would have gone elsewhere
    assert not torch.equal(network.linears[0].weight, resumed.linears[0].weight)


def test_restored_state_is_not_shared(problem):
    """Loading a live state_dict copies the count of draws: the optimizers step on independently."""
    case = problem()
    one, other = (KFAC(case.network.parameters(), labels="sampled") for _ in range(2))
    one.step(case.record())
    other.load_state_dict(one.state_dict())
    other.step(case.record())
    assert one.state_dict()["state"]["sampling"]["step"] == 1
