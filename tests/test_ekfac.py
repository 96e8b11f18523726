"""EKFAC against dense matrices in float64: its direction, what its matrix equals, and how near it is to the Fisher."""

import io
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Generator

from optimizers.core import BERNOULLI, CROSS_ENTROPY, FCNN, SQUARED_ERROR, Status
from optimizers.core.curvature import sampled_deltas
from optimizers.core.update import Update
from optimizers.ekfac import EKFAC
from suites.harness.gate.conformance import CHECKS
from suites.harness.measure.live_bytes import LiveBytes
from suites.harness.training.catalog import choose

SIZES = (8, 5, 9, 4)  # with batches below, between and above the widths, where a layer narrows and where it widens
every_space = pytest.mark.parametrize("batch", [1, 3, 6, 20])


def _deltas(tape, labels):
    """Of each layer [S, B, O], S the labels of a sample."""
    if labels == "batch":
        sets = [[layer.delta for layer in tape.layers]]
    elif labels == "sampled":  # of the first step
        sets = [sampled_deltas(tape, Generator().manual_seed(1))]
    else:
        sets = [tape.backward(root) for root in tape.criterion.roots(tape.logits)]
    return [torch.stack(of_layer) for of_layer in zip(*sets, strict=True)]


def _basis(deltas, h):
    """KFAC's factors G and A, and the eigenvectors of G (x) A."""
    G, A = torch.einsum("sno,snp->op", deltas, deltas) / len(h), h.T @ h / len(h)
    return G, A, torch.kron(torch.linalg.eigh(G)[1], torch.linalg.eigh(A)[1])


def _fisher(deltas, h):
    """Of the weight read row by row: the mean over samples of the outer products of their gradients."""
    gradients = torch.einsum("sno,ni->snoi", deltas, h).flatten(2)
    return torch.einsum("snw,snv->wv", gradients, gradients) / len(h)


def _moments(basis, deltas, h):
    """The diagonal of the Fisher matrix in a basis."""
    return (basis.T @ _fisher(deltas, h) @ basis).diagonal()


def _solved(matrix, damping, gradient):
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    return -torch.linalg.solve(matrix + damping * eye, gradient.flatten()).view_as(gradient)


def _step(optimizer, tape):
    """Directions of one step, dense; the network stays where it is."""
    directions = {}
    optimizer.update = Update("none", lambda tape, group, found, state: directions.update(found))
    optimizer.step(tape)
    (solution,) = optimizer.solutions
    assert (solution.status == Status.SOLVED).all()
    return [(directions[layer.weight].dense(), directions[layer.bias]) for layer in tape.layers]


@every_space
@pytest.mark.parametrize("labels", ["batch", "sampled", "exact"])
@pytest.mark.parametrize("interval", [1, 3])
def test_a_direction_is_a_solve_with_the_dense_matrix(problem, assert_close, labels, batch, interval):
    """-(U diag(moments) U^T + lambda I)^-1 grad in the space of the batch, in that of the layer, or in both."""
    tape = problem(SIZES, batch=batch).record()
    optimizer = EKFAC(tape_parameters(tape), lr=1e-9, damping=0.01, labels=labels, interval=interval)
    with torch.no_grad():
        oracle = []
        for layer, deltas in zip(tape.layers, _deltas(tape, labels), strict=True):
            G, _, U = _basis(deltas, layer.input)
            matrix = U @ _moments(U, deltas, layer.input).diag() @ U.T
            oracle.append((_solved(matrix, 0.01, layer.weight_gradient), _solved(G, 0.01, layer.bias_gradient)))
    for (weight, bias), (of_weight, of_bias) in zip(_step(optimizer, tape), oracle, strict=True):
        assert_close(weight, of_weight, 1e-10)
        assert_close(bias, of_bias, 1e-10)


def tape_parameters(tape):
    return [parameter for layer in tape.layers for parameter in (layer.weight, layer.bias)]


def _blocks(case):
    """The diagonal blocks of the dense Gauss-Newton matrix, of weight and bias of each layer in turn."""
    sizes = [parameter.numel() for parameter in case.network.parameters()]
    return [block.split(sizes, 1)[t] for t, block in enumerate(case.gauss_newton().detach().split(sizes))]


EXACT_IN = {
    "one sample": ({"batch": 1}, CROSS_ENTROPY),
    "one sample, logits one by one": ({"batch": 1, "activation": "tanh"}, BERNOULLI),
    "a deep linear net under squared error": ({"batch": 7, "activation": "linear"}, SQUARED_ERROR),
}


@pytest.mark.parametrize(("options", "criterion"), EXACT_IN.values(), ids=EXACT_IN)
@pytest.mark.parametrize("interval", [1, 2])
def test_where_it_is_the_block_gauss_newton_matrix(problem, assert_close, options, criterion, interval):
    """There a Fisher matrix of the model is one Kronecker product, whose eigenvalues are the moments."""
    case = problem(SIZES, criterion=criterion, **options)
    tape, blocks = case.record(), iter(_blocks(case))
    optimizer = EKFAC(case.network.parameters(), lr=1e-9, damping=0.02, labels="exact", interval=interval)
    for layer, (weight, bias) in zip(tape.layers, _step(optimizer, tape), strict=True):
        assert_close(weight, _solved(next(blocks), 0.02, layer.weight_gradient), 1e-10)
        assert_close(bias, _solved(next(blocks), 0.02, layer.bias_gradient), 1e-10)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("labels", "fisher"), [("batch", "EMPIRICAL"), ("exact", "TYPE2")])
def test_it_agrees_with_curvlinops(problem, assert_close, labels, fisher):
    """(EKFAC + lambda I) d = -grad, with curvlinops' matrix."""
    curvlinops = pytest.importorskip("curvlinops")
    case = problem(SIZES, batch=6)
    parameters, tape = list(case.network.parameters()), case.record()
    matrix = curvlinops.EKFACLinearOperator(
        case.network,
        torch.nn.CrossEntropyLoss(),
        parameters,
        [(case.x, case.labels)],
        fisher_type=curvlinops.FisherType[fisher],
        separate_weight_and_bias=True,
        check_deterministic=False,
    )
    directions = [part for pair in _step(EKFAC(parameters, lr=1e-12, labels=labels), tape) for part in pair]
    gradients = [part for layer in tape.layers for part in (layer.weight_gradient, layer.bias_gradient)]
    with torch.enable_grad():
        products = matrix @ directions
    for product, d, gradient in zip(products, directions, gradients, strict=True):
        assert_close(product + 0.01 * d, -gradient, 1e-9)


@pytest.mark.parametrize("labels", ["batch", "exact"])
@pytest.mark.parametrize("batch", [3, 6, 20])
def test_it_is_never_farther_from_the_fisher_matrix_than_kfac(problem, labels, batch):
    """In the Frobenius norm, over random nets; its matrix is read from the state."""
    nearer = []
    for seed in range(10):
        case = problem(SIZES, batch=batch, seed=seed)
        tape = case.record()
        optimizer = EKFAC(case.network.parameters(), lr=1e-9, labels=labels, interval=2, decay=0.5)
        optimizer.step(tape)
        for layer, deltas in zip(tape.layers, _deltas(tape, labels), strict=True):
            state, (G, A, _) = optimizer.state[layer.weight], _basis(deltas, layer.input)
            U = torch.kron(state["U_G"], state["U_A"])
            own = U @ state["moments"][0].flatten().diag() @ U.T
            fisher = _fisher(deltas, layer.input)
            distance, of_kfac = ((matrix - fisher).norm() / fisher.norm() for matrix in (own, torch.kron(G, A)))
            assert distance <= of_kfac + 1e-13
            nearer.append(distance < 0.98 * of_kfac)
    assert sum(nearer) > 15


@pytest.mark.parametrize("decay", [0.0, 0.4, 0.9])
def test_a_kept_basis_and_moments_that_are_averaged_in_it(problem, assert_close, decay):
    """The basis is that of steps 1 and 4; the moments are of each batch, or averages since the basis was new."""
    cases = [problem(SIZES, batch=6, seed=seed) for seed in range(5)]
    network = cases[0].network
    optimizer = EKFAC(network.parameters(), lr=1e-9, damping=0.01, interval=3, decay=decay)
    for number, case in enumerate(cases):
        tape = network.record(case.criterion, case.x, case.labels)
        found, k = _step(optimizer, tape), number % 3 + 1
        with torch.no_grad():
            if k == 1:
                bases = [_basis(layer.delta[None], layer.input) for layer in tape.layers]
                bases = [(U, torch.linalg.eigh(G)[1]) for G, _, U in bases]
                averages = [(0.0, 0.0)] * len(bases)
            weight = max(1 / k, 1 - decay)
            for t, (layer, (U, V)) in enumerate(zip(tape.layers, bases, strict=True)):
                new = _moments(U, layer.delta[None], layer.input), (layer.delta @ V).square().mean(0)
                averages[t] = [(1 - weight) * a + weight * b for a, b in zip(averages[t], new, strict=True)]
                matrices = [W @ m.diag() @ W.T for W, m in zip((U, V), averages[t], strict=True)]
                assert_close(found[t][0], _solved(matrices[0], 0.01, layer.weight_gradient), 1e-6)
                assert_close(found[t][1], _solved(matrices[1], 0.01, layer.bias_gradient), 1e-6)


@pytest.mark.parametrize("check", ["same seed, same bits", "state_dict resumes", "honest bytes", "learns the digits"])
@pytest.mark.parametrize("options", ["interval=2", "interval=4,decay=0.9,labels=sampled", "labels=exact"])
def test_with_options_it_does_what_is_expected(check, options):
    CHECKS[check](choose(f"ekfac[damping=0.1,{options}]"), "cpu")


def test_a_copy_has_a_state_of_its_own(problem):
    """A pickled or loaded optimizer goes on as the first does, and leaves it alone."""
    case, file = problem(SIZES), io.BytesIO()
    optimizer = EKFAC(case.network.parameters(), interval=3, decay=0.9)
    optimizer.step(case.record())
    network, copy = pickle.loads(pickle.dumps((case.network, optimizer)))
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copy.load_state_dict(torch.load(file, weights_only=True))
    before = [moments.clone() for moments in optimizer.state[case.network.linears[0].weight]["moments"]]
    copy.step(network.record(case.criterion, case.x, case.labels))
    assert all(map(torch.equal, before, optimizer.state[case.network.linears[0].weight]["moments"]))
    optimizer.step(case.record())
    assert all(map(torch.equal, case.network.parameters(), network.parameters()))


def test_a_bias_by_itself_moves_as_with_its_weight(problem):
    """Where the weights are not trained, or in another group, a kept basis lies with the bias."""
    whole, alone = problem(SIZES), problem(SIZES)
    biases = [linear.bias for linear in alone.network.linears]
    optimizers = [EKFAC(p, interval=2) for p in (whole.network.parameters(), biases)]
    for case, optimizer in zip((whole, alone), optimizers, strict=True):
        optimizer.step(case.record())
    assert all(torch.equal(one.bias, two) for one, two in zip(whole.network.linears, biases, strict=True))
    assert optimizers[1].state_dict()["state"].keys() == {0, 1, 2}


def test_wide_layers_are_solved_in_the_space_of_the_batch():
    """No basis of I x I is made while the batch is smaller; a basis that is kept is one."""
    network, x, labels = FCNN((1500, 700, 4)), torch.randn(6, 1500), torch.arange(6) % 4
    peaks = []
    for interval in (1, 2):
        tape = network.record(CROSS_ENTROPY, x, labels)
        optimizer = EKFAC(network.parameters(), interval=interval)
        with LiveBytes() as live:
            optimizer.step(tape)
        peaks.append(live.peak)
    assert peaks[0] < 4 * 700**2 < 4 * 1500**2 < peaks[1]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e20])
@pytest.mark.parametrize("interval", [1, 2])
def test_inputs_out_of_range_are_not_solved(problem, value, interval):
    """In float32: the layer says so, and no error ends the run; the others are solved."""
    case = problem()
    case.network.float()
    tape = case.network.record(case.criterion, case.x.float(), case.labels)
    tape.layers[1].input[3, 2] = value
    optimizer = EKFAC(case.network.parameters(), damping=0.1, interval=interval)
    optimizer.step(tape)
    status = optimizer.solutions[0].status
    assert status[1, 0] == Status.NOT_FINITE
    assert (status[[0, 2]] == Status.SOLVED).all()


def test_a_damping_lost_in_rounding_is_reported(problem):
    """In float32 a lambda of 1e-6 beside moments of 1e2 is rounding."""
    case = problem()
    case.network.float()
    tape = case.network.record(case.criterion, case.x.float(), case.labels)
    tape.layers[1] = replace(tape.layers[1], delta=100 * tape.layers[1].delta)
    optimizer = EKFAC(case.network.parameters(), lr=1e-9, damping=1e-6)
    optimizer.step(tape)
    assert (optimizer.solutions[0].status[1] == Status.ILL_CONDITIONED).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"decay": 0.9}, "raise interval above 1"),
        ({"interval": 0}, "interval must be a whole number of 1 or more, got 0"),
        ({"interval": 2, "decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"damping": 0.0}, r"damping must be in \(0, 1\), got 0.0"),
        ({"labels": "none"}, "labels must be one of batch, sampled, exact, got 'none'"),
        ({"labels": "exact", "criterion": replace(CROSS_ENTROPY, draw=None)}, "use labels=batch"),
    ],
)
def test_refusals(options, says):
    with pytest.raises(ValueError, match=says):
        EKFAC(FCNN((4, 3)).parameters(), **options)


def test_it_claims_no_captured_steps():
    assert "capturable" not in EKFAC(FCNN((4, 3)).parameters()).param_groups[0]
