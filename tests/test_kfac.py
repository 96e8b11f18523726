"""K-FAC as practised: its parts against plain loops, dense matrices and definitions, in float64."""

import io
import math
import pickle
from copy import deepcopy

import pytest
import torch
from sklearn.datasets import load_digits

from optimizers import KFAC, SGD
from optimizers.core import CRITERIA, CROSS_ENTROPY, CURVATURES, FCNN, SOLVERS, SQUARED_ERROR, SecondOrder, bounded
from optimizers.core.solvers.kfi import kfi
from optimizers.core.solvers.solution import Status
from optimizers.core.update import adapt

ALL = {
    "labels": "sampled",
    "decay": 0.95,
    "factor_interval": 2,
    "inverse_interval": 4,
    "joint_bias": True,
    "quadratic": True,
    "lr": 1.0,
    "damping_interval": 3,
}
CONVEX = [criterion for criterion in CRITERIA.values() if criterion.convex]


@pytest.fixture(scope="module")
def digits():
    """Batches of 60 real images, in float64."""
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    return [(images[rows] / 16, labels[rows]) for rows in torch.arange(1500).split(60)]


def _train(optimizer, network, batches):
    for batch in batches:
        optimizer.step(network.record(CROSS_ENTROPY, *batch))
    return [parameter.detach().clone() for parameter in network.parameters()]


def _flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _moved(case, optimizer, tape=None):
    """What a step adds to the parameters, one vector."""
    before = _flat(case.network.parameters())
    optimizer.step(tape or case.record())
    return _flat(case.network.parameters()) - before


def _with_ones(rows):
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)


def _direction(case, tape, factors, damping, joint):
    """By dense solves, from (G, A) of each layer."""
    found = []
    for layer, (G, A) in zip(tape.layers, factors, strict=True):
        pi = ((A.trace() / len(A)) / (G.trace() / len(G))).sqrt()
        left, right = (
            (G + damping**0.5 / pi * torch.eye(len(G), dtype=G.dtype)),
            (A + damping**0.5 * pi * torch.eye(len(A), dtype=A.dtype)),
        )
        gradient = layer.delta.T @ (_with_ones(layer.input) if joint else layer.input) / layer.batch
        direction = -torch.linalg.solve(torch.kron(left, right), gradient.flatten()).view_as(gradient)
        bias = (
            direction[:, -1]
            if joint
            else -torch.linalg.solve(G + damping * torch.eye(len(G), dtype=G.dtype), layer.delta.mean(0))
        )
        found += [direction[:, : layer.inputs], bias]
    return _flat(found)


def _factors(tape, joint):
    rows = [_with_ones(layer.input) if joint else layer.input for layer in tape.layers]
    return [
        (layer.delta.T @ layer.delta / layer.batch, h.T @ h / layer.batch)
        for layer, h in zip(tape.layers, rows, strict=True)
    ]


def _gradient(tape):
    return _flat([part for layer in tape.layers for part in (layer.weight_gradient, layer.bias_gradient)])


# off


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_averages_intervals_and_clip_it_is_the_papers(digits, dtype):
    """Bit for bit, step by step; a clip that is never reached leaves all but the rounding."""
    batches = [(x.to(dtype), y) for x, y in digits[:6]]
    off = {"decay": 0.0, "factor_interval": 1, "inverse_interval": 1, "momentum": 0.0, "kl_clip": None}
    papers, ours, clipped = (FCNN((64, 12, 10), dtype=dtype) for _ in range(3))
    parts = {"curvature": CURVATURES["fisher"], "solver": SOLVERS["kfi"]}
    paper = SecondOrder(papers.parameters(), lr=0.1, **parts, damping=0.01, inverse="exact")
    expected = _train(paper, papers, batches)
    assert all(map(torch.equal, _train(KFAC(ours.parameters(), **off), ours, batches), expected))
    found = _train(KFAC(clipped.parameters(), **{**off, "kl_clip": 1e30}), clipped, batches)
    torch.testing.assert_close(found, expected)


# factors with a memory


@pytest.mark.parametrize("joint", [False, True])
def test_factors_are_averaged_as_by_a_plain_loop(problem, assert_close, joint):
    """The k-th batch weighs max(1/k, 1 - decay); a batch comes in every second step."""
    case, others = problem(), [problem(seed=seed) for seed in range(1, 11)]
    options = {"decay": 0.75, "factor_interval": 2, "inverse_interval": 2, "joint_bias": joint}
    optimizer = KFAC(case.network.parameters(), damping=0.05, **options)
    kept, k = None, 0
    for step, other in enumerate(others):
        tape = case.network.record(case.criterion, other.x, other.labels)
        if step % 2 == 0:
            k += 1
            e, new = min(1 - 1 / k, 0.75), _factors(tape, joint)
            pairs = zip(kept or new, new, strict=True)
            kept = [tuple(e * a + (1 - e) * b for a, b in zip(*both, strict=True)) for both in pairs]
        assert_close(_moved(case, optimizer, tape), 0.1 * _direction(case, tape, kept, 0.05, joint), 1e-10)
        assert_close(optimizer.state[case.network.linears[1].weight]["A"], kept[1][1])
    assert k == 5


@pytest.mark.parametrize("joint", [False, True])
def test_inverses_are_kept_until_they_are_due(problem, assert_close, joint):
    """In steps 2 and 3 those of step 1 are used, while the averages go on."""
    case, others = problem(), [problem(seed=seed) for seed in range(1, 8)]
    optimizer = KFAC(case.network.parameters(), damping=0.05, decay=0.5, inverse_interval=3, joint_bias=joint)
    averages = KFAC(deepcopy(case.network).parameters(), damping=0.05, decay=0.5)
    for step, other in enumerate(others):
        tape = case.network.record(case.criterion, other.x, other.labels)
        moved = _moved(case, optimizer, tape)
        states = [optimizer.state[linear.weight] for linear in case.network.linears]
        if step % 3 == 0:
            used = [(state["G"].clone(), state["A"].clone()) for state in states]
        assert_close(moved, 0.1 * _direction(case, tape, used, 0.05, joint), 1e-10)
    assert averages.period == 1
    assert optimizer.period == 3


@pytest.mark.parametrize(("sizes", "batch"), [((6, 5, 7, 4), 9), ((30, 20, 10), 7), ((30, 4, 30), 12)])
@pytest.mark.parametrize("inverse", ["exact", "factor", "gram"])
def test_a_joint_bias_against_a_dense_kronecker_solve(problem, assert_close, sizes, batch, inverse):
    """d = -((G + left I) x (A + right I))^-1 [grad W, grad b], with A of the rows (h, 1), in every space of solves."""
    case = problem(sizes=sizes, batch=batch)
    tape = case.record()
    expected = _direction(case, tape, _factors(tape, joint=True), 0.02, joint=True)
    moved = _moved(case, KFAC(case.network.parameters(), damping=0.02, joint_bias=True, inverse=inverse))
    assert_close(moved, 0.1 * expected, 1e-10)


# steps


def test_momentum_is_that_of_sgd_with_directions_for_gradients(problem, assert_close):
    """v <- d + m v, theta <- theta + lr v."""
    case = problem()
    optimizer, v = KFAC(case.network.parameters(), lr=0.05, momentum=0.8), 0
    for _ in range(3):
        tape = case.record()
        solution = kfi(tape.layers, CURVATURES["fisher"](tape))
        d = _flat([part for w, b in zip(solution.weights, solution.biases, strict=True) for part in (w.dense(), b)])
        v = d + 0.8 * v
        assert_close(_moved(case, optimizer, tape), 0.05 * v)


@pytest.mark.parametrize("kl_clip", [1e-6, 1e-4, 1.0])
def test_a_step_is_cut_to_the_kl_clip(problem, assert_close, kl_clip):
    """nu = min(1, sqrt(kl_clip / (lr^2 grad^T F^-1 grad)))."""
    case, clipped = problem(), problem()
    full = _moved(case, KFAC(case.network.parameters(), lr=0.3))
    moved = _moved(clipped, KFAC(clipped.network.parameters(), lr=0.3, kl_clip=kl_clip))
    size = -0.3 * torch.dot(_gradient(problem().record()), full)
    nu = min(1.0, (kl_clip / size.item()) ** 0.5)
    assert (nu < 1) == (kl_clip < 1)
    assert_close(moved, nu * full)


@pytest.mark.parametrize("criterion", CONVEX, ids=lambda criterion: criterion.name)
def test_rate_and_momentum_are_those_of_the_dense_model(problem, assert_close, criterion):
    """alpha and mu of Martens and Grosse's 2 x 2 system, with F + lambda I a matrix; in the first step alpha alone."""
    case = problem(criterion=criterion)
    optimizer = KFAC(case.network.parameters(), lr=1.0, damping=0.03, quadratic=True)
    last = None
    for step in range(4):
        tape = case.record()
        solution = kfi(tape.layers, CURVATURES["fisher"](tape), 0.03)
        d = _flat([part for w, b in zip(solution.weights, solution.biases, strict=True) for part in (w.dense(), b)])
        B = torch.stack([d, last], 1) if step else d[:, None]
        damped = case.gauss_newton() + 0.03 * torch.eye(len(d), dtype=d.dtype)
        expected = B @ torch.linalg.solve(B.T @ damped @ B, -B.T @ _gradient(tape))
        last = _moved(case, optimizer, tape)
        assert_close(last, expected, 1e-10)
        assert tape.passes == {"tangents": 2}


def test_damping_is_adapted_to_how_well_the_model_predicts(problem):
    """On a quadratic, whose model is the loss but for lambda, it falls; where a step is far too long it rises."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(40, width, generator=generator).double() for width in (5, 3))
    network = FCNN((5, 3), dtype=torch.float64)
    optimizer = KFAC(network.parameters(), lr=0.1, damping=0.5, damping_interval=2, omega=0.9, criterion=SQUARED_ERROR)
    seen = []
    for _ in range(5):
        optimizer.step(network.record(SQUARED_ERROR, x, y))
        seen.append(optimizer.param_groups[0]["damping"].item())
    assert seen == pytest.approx([0.5, 0.5 * 0.81, 0.5 * 0.81, 0.5 * 0.81**2, 0.5 * 0.81**2])
    case = problem(activation="softplus")
    bold = KFAC(case.network.parameters(), lr=1e3, damping=1e-4, damping_interval=1)
    bold.step(case.record())
    assert bold.param_groups[0]["damping"].item() == pytest.approx(1e-4 / 0.95)


@pytest.mark.parametrize("rule", [{"momentum": 0.9}, {"quadratic": True}, {"kl_clip": 1e-3}])
def test_the_reduction_ratio_is_that_of_the_dense_model(problem, rule):
    """rho = (loss after - loss before) / (grad^T delta + delta^T (F + lambda I) delta / 2), by its thresholds."""
    ratios = []
    for lr in (0.3, 3.0, 30.0):
        case = problem(activation="tanh")
        optimizer = KFAC(case.network.parameters(), lr=lr, damping=0.01, damping_interval=1, **rule)
        for _ in range(3):
            tape, damping = case.record(), optimizer.param_groups[0]["damping"].item()
            F = case.gauss_newton()
            delta = _moved(case, optimizer, tape)
            model = _gradient(tape) @ delta + delta @ (F + damping * torch.eye(len(F), dtype=F.dtype)) @ delta / 2
            rho = ((case.record().loss - tape.loss) / model).item() if model < 0 else 0
            factor = 0.95 if rho > 3 / 4 else 1.0 if rho >= 1 / 4 else 1 / 0.95
            assert optimizer.param_groups[0]["damping"].item() == pytest.approx(damping * factor)
            ratios.append(factor)
    assert len(set(ratios)) >= 2 or "kl_clip" in rule


@pytest.mark.parametrize(
    ("reduction", "change", "factor"),
    [(-0.8, -1, 0.5), (-0.74, -1, 1), (-0.26, -1, 1), (-0.2, -1, 2), (1, -1, 2), (1, 1, 2), (0, 0, 1)],
)
def test_levenberg_and_marquardts_rule(reduction, change, factor):
    damping = torch.tensor(3.0)
    adapt(damping, torch.tensor(float(reduction)), torch.tensor(float(change)), 0.5, 1e-3)
    assert damping.item() == pytest.approx(3 * factor)
    adapt(damping, torch.tensor(float("nan")), torch.tensor(-1.0), 0.5, 1e-3)
    assert damping.item() == pytest.approx(6 * factor)
    adapt(damping, torch.tensor(-1.0), torch.tensor(-1.0), 1e-9, 1e-3)
    assert damping.item() == pytest.approx(1e-3)


# the whole


def test_it_trains_faster_than_sgd(digits):
    """On the digits, each at a good learning rate of its own: the loss after two passes."""
    losses = {}
    options = {**ALL, "inverse_interval": 6, "damping_interval": 5}
    for name, build in {
        "practised": lambda parameters: KFAC(parameters, **options),
        "sgd": lambda parameters: SGD(parameters, lr=1.0),
    }.items():
        network = FCNN((64, 20, 10), dtype=torch.float64)
        _train(build(network.parameters()), network, 2 * digits)
        losses[name] = sum(network.record(CROSS_ENTROPY, *batch).loss.item() for batch in digits) / len(digits)
    assert losses["practised"] < 0.5 * losses["sgd"], losses


@pytest.mark.parametrize("rule", [{}, {"quadratic": False, "momentum": 0.9, "kl_clip": 1e-2, "lr": 0.05}])
def test_it_resumes_bit_for_bit(digits, rule):
    """From a file, in the middle of an interval: draws, averages, inverses, momentum, damping and all counts."""
    options = {**ALL, **rule}
    network = FCNN((64, 12, 10), dtype=torch.float64)
    optimizer = KFAC(network.parameters(), **options)
    _train(optimizer, network, digits[:5])
    file = io.BytesIO()
    torch.save([network.state_dict(), optimizer.state_dict()], file)
    whole = _train(optimizer, network, digits[5:12])
    file.seek(0)
    of_network, of_optimizer = torch.load(file, weights_only=True)
    resumed = FCNN((64, 12, 10), seed=5, dtype=torch.float64)
    resumed.load_state_dict(of_network)
    restored = KFAC(resumed.parameters(), **options)
    restored.load_state_dict(of_optimizer)
    for one, other in zip(whole, _train(restored, resumed, digits[5:12]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("copy", [deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_as_the_optimizer_would(digits, copy):
    network = FCNN((64, 12, 10), dtype=torch.float64)
    optimizer = KFAC(network.parameters(), **ALL)
    _train(optimizer, network, digits[:5])
    other_network, other = copy((network, optimizer))
    for one, two in zip(
        _train(optimizer, network, digits[5:9]), _train(other, other_network, digits[5:9]), strict=True
    ):
        assert torch.equal(one, two)


@pytest.mark.parametrize("trained", ["layers.1", "layers.1.bias", "layers.0.weight"])
def test_what_is_in_no_group_stays(problem, trained):
    case = problem()
    named = {name: parameter for name, parameter in case.network.named_parameters() if name.startswith(trained)}
    before = {name: parameter.detach().clone() for name, parameter in case.network.named_parameters()}
    optimizer = KFAC(named.values(), **ALL)
    for _ in range(3):
        optimizer.step(case.record())
    optimizer.load_state_dict(optimizer.state_dict())
    moved = {name for name, parameter in case.network.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1}, r"decay must be in \[0, 1\), got 1"),
        ({"kl_clip": 0}, "kl_clip must be above 0, or None, got 0"),
        ({"damping_interval": 0}, "damping_interval must be a whole number of 1 or more, or None, got 0"),
        ({"omega": 1.0}, r"omega must be in \(0, 1\), got 1.0"),
        ({"factor_interval": 2, "inverse_interval": 3}, "inverse_interval must be a multiple of factor_interval"),
        ({"factor_interval": 2}, "inverse_interval must be a multiple of factor_interval"),
        ({"decay": 0.9, "inverse": "gram"}, "keep the factor A, which inverse=gram does not form"),
        ({"quadratic": True, "momentum": 0.9}, "leave momentum and kl_clip"),
        ({"quadratic": True, "kl_clip": 0.1}, "leave momentum and kl_clip"),
        ({"decay": 0.9, "capturable": True}, "a captured step cannot differ from the next"),
        ({"labels": "sampled", "capturable": True}, "a captured step cannot differ from the next"),
        ({"damping_interval": 2, "capturable": True}, "a captured step cannot differ from the next"),
        ({"quadratic": True, "criterion": bounded()}, "'bounded' is not convex"),
        ({"damping_interval": 5, "criterion": bounded()}, "'bounded' is not convex"),
    ],
)
def test_what_makes_no_sense_is_refused(problem, options, message):
    """When it is built, in one line."""
    with pytest.raises(ValueError, match=message) as error:
        KFAC(problem().network.parameters(), **options)
    assert len(str(error.value).splitlines()) == 1


def test_several_groups_are_refused(problem):
    first, second, _ = (list(linear.parameters()) for linear in problem().network.linears)
    with pytest.raises(ValueError, match="one parameter group, got 2"):
        KFAC([{"params": first}, {"params": second}], decay=0.9)


@pytest.mark.parametrize("labels", ["batch", "sampled", "exact"])
@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_logits_that_are_not_finite_have_a_status_and_raise_nothing(problem, criterion, labels):
    """Also where labels are drawn from them; EKFAC and KFAC draw the same ones."""
    case = problem(criterion=criterion)
    case.network.linears[-1].weight.data.fill_(math.nan)
    optimizer = KFAC(case.network.parameters(), labels=labels)
    optimizer.step(case.record())
    assert (optimizer.solutions[0].status == Status.NOT_FINITE).all()
