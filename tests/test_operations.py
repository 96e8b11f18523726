"""Operations: the counter against torch's own and against formulas, and the cost of a step against counted steps."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from optimizers.core import CROSS_ENTROPY, CURVATURES, FCNN, SOLVERS, SecondOrder, TapeOptimizer
from optimizers.core.cholesky import Request, factorize
from suites.harness.measure.operations import OperationCounter, count, count_gradient, iterations_run, probe
from suites.harness.measure.step import Step
from suites.harness.memory.formulas import Kind
from suites.harness.memory.peak import noise_step
from suites.harness.training.catalog import choose, grid, named
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.step_log import StepLog

SIZES, BATCH = (64, 20, 15, 10), 50
PRODUCTS = [2 * BATCH * inputs * outputs for inputs, outputs in pairwise(SIZES)]


@pytest.fixture(scope="module")
def task():
    return Task.load(Settings(device="cpu", network=SIZES, batch_size=BATCH))


def iterations(optimizer):
    """Of the last step, of each group that CG solved: of all its layers, then of each block."""
    pairs = zip(optimizer.param_groups, getattr(optimizer, "solutions", []), strict=False)
    return [
        tuple(iterations_run(solution, solution.iterations, group["max_iter"]).tolist())
        for group, solution in pairs
        if "max_iter" in group
    ]


def spd(n, *batch):
    a = torch.randn(*batch, n, n)
    return a @ a.mT + n * torch.eye(n)


@pytest.mark.parametrize("inference", [False, True])
def test_products_are_counted_as_torch_counts_them(inference):
    """Addmm, mm and bmm of a forward and a backward pass, and those that a composite operation is made of."""
    network, x, labels = FCNN((8, 7, 6, 5)), torch.randn(9, 8), torch.randint(5, (9,))
    with FlopCounterMode(display=False) as known, OperationCounter() as own:
        CROSS_ENTROPY.value(network(x), labels).mean().backward()
        with torch.inference_mode(inference):
            torch.einsum("bij,bjk->bik", torch.randn(2, 3, 4), torch.randn(2, 4, 5))
            torch.nn.functional.linear(x, x)
            torch.matmul(x.T, x)
        network.record(CROSS_ENTROPY, x, labels).write_gradients()
    assert known.get_total_flops() > 0
    assert own.counts == {"forward_backward": known.get_total_flops()}


@pytest.mark.parametrize(
    ("call", "operations", "factorizations"),
    [
        (lambda: torch.zeros(3, 4).addmm_(torch.ones(3, 5), torch.ones(5, 4)), 2 * 3 * 4 * 5, 0),
        (lambda: torch.ones(3, 5) @ torch.ones(5), 2 * 3 * 5, 0),
        (lambda: torch.addmv(torch.ones(3), torch.ones(3, 5), torch.ones(5)), 2 * 3 * 5, 0),
        (lambda: torch.addr(torch.ones(3, 5), torch.ones(3), torch.ones(5)), 2 * 3 * 5, 0),
        (lambda: torch.dot(torch.ones(7), torch.ones(7)), 2 * 7, 0),
        (lambda: torch.linalg.cholesky(spd(6)), 2 * 6**3 + sum(k * k for k in range(1, 7)), 1),
        (lambda: torch.linalg.cholesky(spd(6, 4)), 4 * (2 * 6**3 + sum(k * k for k in range(1, 7))), 4),
        (lambda: torch.cholesky_solve(torch.ones(6, 2), torch.eye(6)), 2 * 2 * 6**2, 0),
        (lambda: torch.linalg.solve_triangular(torch.eye(6), torch.ones(6, 2), upper=False), 2 * 6**2, 0),
        (lambda: torch.linalg.inv(torch.eye(6)), 2 * 6**3, 1),
        (lambda: torch.linalg.solve(torch.eye(6), torch.ones(6, 2)), 2 * 6**3 // 3 + 2 * 2 * 6**2, 1),
        (lambda: torch.linalg.lu_factor(torch.eye(6)), 2 * 6**3 // 3, 1),
        (lambda: torch.linalg.svd(torch.ones(9, 6)), 14 * 9 * 6**2 + 8 * 6**3, 1),
        (lambda: torch.cholesky_inverse(torch.eye(6)), 2 * 6**3 // 3, 0),
        (lambda: torch.zeros(2, 3, 4).baddbmm_(torch.ones(2, 3, 5), torch.ones(2, 5, 4)), 2 * 2 * 3 * 4 * 5, 0),
        (lambda: torch.linalg.eigh(torch.eye(6)), 9 * 6**3, 1),
        (lambda: torch.linalg.qr(torch.ones(9, 6)), 4 * 9 * 6**2 - 4 * 6**3 // 3, 1),
        (lambda: torch.ones(9).exp().sum(), 0, 0),
    ],
)
def test_linear_algebra_is_counted_by_its_formula(call, operations, factorizations):
    with OperationCounter() as counter:
        call()
    assert (counter.counts["forward_backward"], counter.counts["factorizations"]) == (operations, factorizations)


def test_a_factorization_by_blocks_counts_once():
    """And takes n^3/3 operations and more, as its blocks are updated whole; a solve of it takes 2 n^2 a column."""
    n, matrix, right = 600, spd(600), torch.ones(600, 7)
    with OperationCounter() as counter:
        factorize([Request(n, lambda: matrix, (0.1,))])[0][0].solve(right)
    assert counter.counts["factorizations"] == 1
    assert n**3 / 3 < counter.counts["forward_backward"] - 2 * 7 * n**2 < n**3


def test_a_gradient_is_three_products_a_layer_but_two_for_the_first(task):
    assert count_gradient(task.step(choose("sgd"), 0)) == 3 * sum(PRODUCTS) - PRODUCTS[0]


@pytest.mark.parametrize("spec", ["sgd", "torch.optim.SGD[lr=0.1]", "torch.optim.AdamW"])
def test_a_step_of_a_first_order_method_is_one_gradient(task, spec):
    cost = probe(task.step(choose(spec), 0))
    assert cost.gradient_equivalents(cost.of([])) == 1


@pytest.mark.parametrize(
    "spec",
    [
        *sorted({*named()} - {"hf", "block_hf", "kfac_practised"}),
        *grid(),
        "kfac[labels=sampled]",
        "kfac[inverse=rank_one]",
        "kfac[decay=0.9,labels=sampled,joint_bias=True,momentum=0.9,kl_clip=0.01]",
        "kfac[quadratic=True,damping_interval=1]",
        "ea_cg[max_iter=1]",
        "ea_cg[factor=full]",
        "ekfac[labels=exact]",
        "fisher+ea_cg[factor=full]",
    ],
)
def test_the_cost_of_a_step_is_what_steps_take_when_counted(task, spec):
    """Fixed part and CG iterations, phase by phase, in each of some steps, however many iterations those take."""
    step = task.step(choose(spec), seed=0)
    cost = probe(task.step(choose(spec), seed=1))
    seen = set()
    for _ in range(12):
        counted = count(step)
        ran = iterations(step.optimizer)
        assert cost.of(ran) == counted
        seen.update(ran)
    if "ea_cg" in spec and "max_iter" not in spec:
        assert len(seen) > 1


@pytest.mark.parametrize("spec", ["kfra", "ea_cg[tolerance=1e-3]", "ea_cg[factor=full]", "kfac[labels=sampled]"])
def test_a_diagonal_hessian_of_many_outputs_is_no_matrix(spec):
    """Its products and solves are elementwise, so the 300 outputs cost no 300^3 or 300^2, but for a sampled Fisher."""

    def step():
        return noise_step(spec, (30, 12, 300), 10, kind=Kind("bernoulli"))

    cost, counted = probe(step()), step()
    counts = count(counted)
    assert cost.of(iterations(counted.optimizer)) == counts
    assert (counts["solve"] > 300**3 / 3) == (spec == "kfac[labels=sampled]")
    if spec == "kfra":
        assert counts["solve"] + counts["curvature"] < 300**2 * 10


def test_groups_have_their_own_iterations(task):
    def step(seed):
        network = task.network(seed)
        first, *others = network.linears
        groups = [
            {"params": list(first.parameters()), "max_iter": 3},
            {"params": [parameter for linear in others for parameter in linear.parameters()]},
        ]
        parts = {"curvature": CURVATURES["pch1"], "solver": SOLVERS["ea_cg"]}
        optimizer = SecondOrder(groups, lr=0.1, **parts, damping=0.01, max_iter=20, tolerance=1e-3)
        return Step(network, optimizer, task.criterion, task.dataset.batches(BATCH, 0, seed))

    probed, counted = step(0), step(1)
    cost = probe(probed)
    assert [group["max_iter"] for group in probed.optimizer.param_groups] == [3, 20]
    assert [group["tolerance"] for group in probed.optimizer.param_groups] == [1e-3, 1e-3]
    for _ in range(3):
        counts = count(counted)
        ran = iterations(counted.optimizer)
        assert ran[0][0] == 3 < ran[1][0]
        assert cost.of(ran) == counts


def test_passes_are_counted(task):
    """Labels drawn from the model need a second backward pass."""
    assert count(task.step(choose("kfac"), 0))["backwards"] == 1
    counts = count(task.step(choose("kfac[labels=sampled]"), 0))
    assert (counts["forwards"], counts["backwards"]) == (1, 2)


class EveryFifth(TapeOptimizer):
    """Inverts a matrix in one step of five."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        self.steps = 0

    def step(self, tape):
        self.on_phase("curvature")
        if self.steps % 5 == 0:
            torch.linalg.inv(torch.eye(30))
        self.steps += 1


def test_steps_that_are_not_alike_are_averaged(task):
    network = task.network(0)
    batches = task.dataset.batches(BATCH, 0, 0)
    cost = probe(Step(network, EveryFifth(network.parameters()), task.criterion, batches))
    counts = cost.of([])
    assert (counts["curvature"], counts["factorizations"]) == (2 * 30**3 / 5, 1 / 5)
    assert counts["forward_backward"] == 2 * sum(PRODUCTS) - PRODUCTS[0]


def test_steps_of_a_period_are_averaged_over_it(task):
    """Factors in every second step, inverses in every fourth, the damping in every sixth: 12 steps repeat."""
    spec = "kfac[labels=sampled,decay=0.9,factor_interval=2,inverse_interval=4,damping_interval=6,quadratic=True]"
    step, total = task.step(choose(spec), seed=0), Counter()
    cost = probe(task.step(choose(spec), seed=1))
    for _ in range(12):
        total.update(count(step))
    assert Counter({name: 12 * number for name, number in cost.of([]).items()}) == pytest.approx(total)
    tangents, forwards, draws, factorizations = 2 * 12, 2, 6, 3 * 3 * 3  # of A, and of G for weight and bias
    assert (total["forwards"], total["backwards"]) == (12 + tangents + forwards, 12 + draws)
    assert total["factorizations"] == factorizations


def test_eigenvectors_that_are_kept_are_counted_once_in_their_interval(task):
    """Two of each layer in one step of three; the moments cost something in every one."""
    cost, every = (probe(task.step(choose(spec), seed=0)) for spec in ("ekfac[interval=3]", "ekfac"))
    assert cost.of([])["factorizations"] == 2 * 3 / 3
    assert every.of([])["factorizations"] == 2 * 3
    assert 0 < cost.of([])["solve"] < count(task.step(choose("ekfac[interval=3]"), seed=1))["solve"]


@pytest.mark.parametrize("spec", ["hf", "block_hf"])
def test_passes_that_differ_from_step_to_step_are_counted(spec):
    """CG iterations and trials of Hessian-free optimization: what a run adds up is what a counter saw of its steps."""
    task = Task.load(Settings(device="cpu", network=(64, 20, 10)))
    step, seen = task.step(choose(spec), seed=0), Counter()
    cost = probe(task.step(choose(spec), seed=1))
    log = StepLog(step, cost, "cpu")
    for _ in range(6):
        with OperationCounter() as counter:
            step()
        seen.update(counter.counts)
        log.watch()
    products, forwards = step.passes["products"], step.passes["forwards"]
    point = log.close()
    assert point["gradient_equivalents"] == pytest.approx(seen.total() / cost.gradient, rel=0.02)
    assert point["forwards"] == 6 + products + forwards
    assert point["backwards"] == 6 + products
