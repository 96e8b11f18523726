"""Curvature: G^t of every layer against autograd, formulas spelt out sample by sample, BackPACK and curvlinops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import functional_call

from optimizers.core import (
    ACTIVATIONS,
    BERNOULLI,
    CRITERIA,
    CROSS_ENTROPY,
    CURVATURES,
    SQUARED_ERROR,
    Operator,
    bounded,
    fisher,
    gauss_newton,
    pch,
)
from optimizers.core import symmetric as symmetric_module
from optimizers.core.curvature import absolute, exact_fisher, pos_eig, sampled_fisher

every_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def _matrices(curvature):
    return [G.dense() for G in curvature]


def _assert_all_close(assert_close, actual, expected, tolerance=1e-12):
    assert len(actual) == len(expected)
    for G, oracle in zip(actual, expected, strict=True):
        assert_close(G.dense() if isinstance(G, Operator) else G, oracle, tolerance)


@every_criterion
@every_activation
def test_one_sample_gives_the_hessian_in_the_biases(problem, assert_close, without_repair, activation, criterion):
    """Eq. (8) without Pos-Eig at B = 1 is hess_{b^t} C, exactly."""
    case = problem(activation=activation, criterion=criterion, batch=1, seed=3)
    parameters = dict(case.network.named_parameters())

    def hessian(name):
        def loss(bias):
            logits = functional_call(case.network, {**parameters, name: bias}, (case.x,))
            return criterion.value(logits, case.labels).mean()

        return torch.func.hessian(loss)(parameters[name]).detach()

    blocks = [hessian(name) for name in parameters if name.endswith("bias")]
    _assert_all_close(assert_close, without_repair(case.record()), blocks)


def _eq_8(case, output, fix):
    """Eq. (8) with explicit loops over the batch and autograd's derivatives of the activation."""
    value = case.network.activations[0].value
    slope, bend = torch.func.grad(value), torch.func.grad(torch.func.grad(value))
    layers, factors = case.record().layers, [output]
    preactivations, h = [], case.x
    for linear in case.network.linears[:-1]:
        preactivations.append(linear(h).detach())
        h = value(preactivations[-1])
    for layer, z in zip(layers[:0:-1], preactivations[::-1], strict=True):
        slopes = [torch.func.vmap(slope)(row) for row in z]
        bends = [torch.func.vmap(bend)(row) for row in z]
        outer = sum(torch.outer(row, row) for row in slopes) / len(slopes)
        mean = sum(row * (layer.weight.T @ d) for row, d in zip(bends, layer.delta, strict=True)) / len(bends)
        factors.append(layer.weight.T @ factors[-1] @ layer.weight * outer + torch.diag(fix(mean)))
    return [G.detach() for G in factors[::-1]]


@pytest.mark.parametrize(
    ("gamma", "fix"),
    [
        (-1, torch.abs),
        (-0.5, lambda mean: mean.clamp_min(0) - 0.5 * mean.clamp_max(0)),
        (0, lambda mean: mean.clamp_min(0)),
    ],
)
@every_criterion
@every_activation
def test_pch_is_eq_8(problem, assert_close, activation, criterion, gamma, fix):
    """Eq. (8): (W^T G W) * E[phi' phi'^T] + diag(fix(E[phi'' * W^T delta])), from Pos-Eig of E[hess_z C]."""
    case = problem(activation=activation, criterion=criterion)
    hessian = case.record().mean_hessian
    eigenvalues, vectors = torch.linalg.eigh(hessian.diag() if hessian.ndim == 1 else hessian)
    expected = _eq_8(case, vectors @ torch.diag(eigenvalues.abs()) @ vectors.T, fix)
    _assert_all_close(assert_close, pch(case.record(), gamma), expected)


@every_activation
def test_gauss_newton_is_eq_8_without_its_second_term(problem, assert_close, activation):
    """KFRA: G^{t-1} = (W^T G^t W) * E[phi' phi'^T], from E[hess_z C]."""
    case = problem(activation=activation)
    expected = _eq_8(case, case.record().mean_hessian, torch.zeros_like)
    _assert_all_close(assert_close, gauss_newton(case.record()), expected)


def test_the_problems_have_negative_curvature_to_repair(problem):
    """E[phi'' * W^T delta] has entries of both signs, and E[hess_z C] of Eq. (14) is indefinite, in the tests above."""
    for criterion in CRITERIA.values():
        tape = problem(criterion=criterion).record()
        means = torch.cat([(layer.bend * layer.pullback).mean(0) for layer in tape.layers[1:]])
        assert means.min() < 0 < means.max()
    assert torch.linalg.eigvalsh(problem(criterion=bounded()).record().mean_hessian)[0] < 0


@pytest.mark.parametrize(("name", "gamma"), [("pch1", -1), ("pch2", 0)])
def test_named_curvatures(problem, name, gamma):
    """PCH-1 is gamma = -1 (also the default) and PCH-2 is gamma = 0."""
    tape = problem().record()
    for named, explicit in zip(CURVATURES[name](tape), pch(tape, gamma), strict=True):
        assert torch.equal(named.dense(), explicit.dense())
    assert torch.equal(pch(tape)[0].dense(), pch(tape, -1)[0].dense())


@pytest.mark.parametrize("gamma", [-1.01, 0.01, 1, float("nan")])
def test_pch_refuses_other_gammas(problem, gamma):
    """gamma lies in [-1, 0]."""
    with pytest.raises(ValueError, match=r"gamma must be in \[-1, 0\], got"):
        pch(problem().record(), gamma)


def test_gauss_newton_refuses_a_criterion_that_is_not_convex(problem):
    """The Gauss-Newton matrix needs E[hess_z C] >= 0; the message says what to use instead."""
    with pytest.raises(ValueError, match="'bounded' is not convex: use PCH"):
        gauss_newton(problem(criterion=bounded()).record())


def test_pos_eig(assert_close):
    """Pos-Eig: Q diag(lambda) Q^T -> Q diag(|lambda|) Q^T, with Q and lambda known."""
    generator = torch.Generator().manual_seed(0)
    Q, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    eigenvalues = torch.tensor([-3.0, -0.5, 0.0, 1e-6, 0.5, 2.0], dtype=torch.float64)
    assert_close(pos_eig(Q @ torch.diag(eigenvalues) @ Q.T), Q @ torch.diag(eigenvalues.abs()) @ Q.T)


@pytest.mark.parametrize("widths", [(300,), (128, 129), (127, 256)])
def test_wide_layers(problem, assert_close, widths):
    """Eq. (8) where the symmetric product runs over several strips, full or not."""
    case = problem(sizes=(5, *widths, 4), activation="tanh")
    assert max(widths) > symmetric_module.STRIP
    factors = pch(case.record())
    _assert_all_close(assert_close, factors, _eq_8(case, case.record().mean_hessian, torch.abs))
    for G in _matrices(factors):
        assert_close(G, G.T, 1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("decades", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 10, 60])
def test_absolute_is_pos_eig(dtype, tolerance, decades, size):
    """The iteration that a GPU takes for Pos-Eig, with eigenvalues of both signs over up to 36 decades, and 0."""
    generator = torch.Generator().manual_seed(size)
    Q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    sizes = 10.0 ** -(decades * (torch.arange(size, dtype=torch.float64) % 12))
    eigenvalues = torch.randn(size, generator=generator, dtype=torch.float64) * sizes
    matrix = (Q * eigenvalues @ Q.T).to(dtype)
    actual, expected = absolute((matrix + matrix.T) / 2).double(), Q * eigenvalues.abs() @ Q.T
    assert (actual - expected).norm() <= tolerance * expected.norm()
    assert not absolute(torch.zeros(size, size, dtype=dtype)).any()


@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    classes=st.integers(2, 6),
    activation=st.sampled_from(list(ACTIVATIONS)),
    criterion=st.sampled_from(list(CRITERIA)),
    batch=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    gamma=st.sampled_from([-1, -0.3, 0]),
)
def test_pch_is_positive_semi_definite(problem, widths, classes, activation, criterion, batch, seed, gamma):
    """G^t >= 0 for every layer, whatever the net, the batch and the criterion."""
    case = problem((*widths, classes), activation, CRITERIA[criterion], batch, seed)
    for G in _matrices(pch(case.record(), gamma)):
        eigenvalues = torch.linalg.eigvalsh(G)
        assert eigenvalues[0] >= -1e-10 * eigenvalues[-1]


@every_criterion
def test_fisher(problem, assert_close, criterion):
    """G^t = E[delta^t delta^tT]."""
    tape = problem(criterion=criterion).record()
    expected = [sum(torch.outer(d, d) for d in layer.delta) / layer.batch for layer in tape.layers]
    _assert_all_close(assert_close, fisher(tape), expected)


@pytest.mark.parametrize("criterion", [CROSS_ENTROPY, bounded()], ids=lambda criterion: criterion.name)
def test_exact_fisher_is_the_mean_over_the_classes(problem, assert_close, criterion):
    """E_{y ~ p}[delta^t delta^tT], with a pass for every label."""
    case = problem(criterion=criterion, batch=5)
    tape = case.record()
    p = tape.logits.softmax(1)
    expected = [torch.zeros(layer.outputs, layer.outputs, dtype=p.dtype) for layer in tape.layers]
    for label in range(p.shape[1]):
        labelled = case.network.record(criterion, case.x, torch.full((5,), label))
        for total, layer in zip(expected, labelled.layers, strict=True):
            total += (p[:, label, None] * layer.delta).T @ layer.delta / 5
    _assert_all_close(assert_close, exact_fisher(tape), expected)


@pytest.mark.parametrize("criterion", [SQUARED_ERROR, BERNOULLI], ids=lambda criterion: criterion.name)
def test_exact_fisher_of_vectors_is_the_gauss_newton_matrix_in_the_biases(problem, assert_close, criterion):
    """E[J^T hess_z C J], J the Jacobian of the logits in z^t, by autograd."""
    case = problem(criterion=criterion, batch=5)
    tape, parameters = case.record(), dict(case.network.named_parameters())
    for t, name in enumerate(name for name in parameters if name.endswith("bias")):
        total = 0
        for x, label, logits in zip(case.x, case.labels, tape.logits, strict=True):
            J = torch.func.jacrev(
                lambda bias, x=x, name=name: functional_call(case.network, {**parameters, name: bias}, (x,))
            )(parameters[name])
            hessian = torch.func.hessian(lambda z, y=label: criterion.value(z[None], y[None])[0])(logits)
            total = total + J.T @ hessian @ J / 5
        assert_close(exact_fisher(tape)[t].dense(), total.detach())


@every_criterion
def test_sampled_fisher_approaches_the_exact_one(problem, criterion):
    """The mean of many draws, to the size of its standard error."""
    tape, draws = problem(criterion=criterion, batch=5).record(), 400
    generator = torch.Generator().manual_seed(0)
    samples = [
        torch.stack(of_layer)
        for of_layer in zip(*(_matrices(sampled_fisher(tape, generator)) for _ in range(draws)), strict=True)
    ]
    for drawn, exact in zip(samples, _matrices(exact_fisher(tape)), strict=True):
        standard_error = drawn.std(0) / draws**0.5
        assert ((drawn.mean(0) - exact).abs() <= 5 * standard_error + 1e-15).all()
        assert standard_error.norm() < 0.1 * exact.norm()  # so that the test says something


def test_sampled_fisher_repeats_with_its_generator(problem):
    """The draws come from the generator alone."""
    tape = problem(batch=40).record()
    one, two, other = (_matrices(sampled_fisher(tape, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0])


def test_curvature_carries_no_graph(problem):
    """G^t is a number to autograd, also where no optimizer's step surrounds the call."""
    tape = problem().record()
    for curvature in (*CURVATURES.values(), lambda tape: sampled_fisher(tape, torch.Generator())):
        assert not any(G.requires_grad for G in _matrices(curvature(tape)))


def _backpack(case, extension, savefield):
    """What BackPACK computes for the biases, which is G^t."""
    backpack = pytest.importorskip("backpack")
    modules = []
    for linear in case.network.linears:
        copy = torch.nn.Linear(*reversed(linear.weight.shape), dtype=torch.float64)
        copy.load_state_dict(linear.state_dict())
        modules += [copy, torch.nn.Sigmoid()]
    model = backpack.extend(torch.nn.Sequential(*modules[:-1]))
    loss = backpack.extend(torch.nn.CrossEntropyLoss())
    with backpack.backpack(extension):
        loss(model(case.x.clone().requires_grad_()), case.labels).backward()
    return [getattr(module.bias, savefield)[0].detach() for module in model[::2]]


def test_gauss_newton_agrees_with_backpack(problem, assert_close):
    """KFRA's G^t."""
    extensions = pytest.importorskip("backpack.extensions")
    case = problem()
    _assert_all_close(assert_close, gauss_newton(case.record()), _backpack(case, extensions.KFRA(), "kfra"))


@pytest.mark.parametrize(
    ("name", "repaired"),
    [
        ("PCH_ABS", lambda tape: pch(tape, -1)),
        ("PCH_CLIP", lambda tape: pch(tape, 0)),
        ("HESSIAN", None),
    ],
)
def test_pch_agrees_with_backpack(problem, assert_close, without_repair, name, repaired):
    """Eq. (8) with PCH-1's and PCH-2's repair, and Eq. (6) without."""
    hbp = pytest.importorskip("backpack.extensions.secondorder.hbp")
    extension = hbp.HBP(
        curv_type=getattr(hbp.Curvature, name),
        loss_hessian_strategy=hbp.LossHessianStrategy.SUM,
        backprop_strategy=hbp.BackpropStrategy.BATCH_AVERAGE,
        ea_strategy=hbp.ExpectationApproximation.BOTEV_MARTENS,
    )
    case = problem()
    actual = (repaired or without_repair)(case.record())
    _assert_all_close(assert_close, actual, _backpack(case, extension, "hbp"))


def test_fisher_agrees_with_curvlinops(problem, assert_close):
    """G^t = E[delta^t delta^tT] with the labels of the batch: the empirical Fisher's gradient covariances."""
    curvlinops = pytest.importorskip("curvlinops")
    kfac = pytest.importorskip("curvlinops.kfac")
    case = problem()
    biases = [linear.bias for linear in case.network.linears]
    operator = curvlinops.KFACLinearOperator(
        case.network,
        torch.nn.CrossEntropyLoss(),
        biases,
        [(case.x, case.labels)],
        fisher_type=kfac.FisherType.EMPIRICAL,
        check_deterministic=False,
    )
    tape = case.record()
    for t, G in enumerate(_matrices(fisher(tape))):
        columns = torch.eye(G.shape[0], dtype=G.dtype)
        zeros = [torch.zeros(*bias.shape, G.shape[0], dtype=G.dtype) for bias in biases]
        product = operator @ [columns if s == t else zero for s, zero in enumerate(zeros)]
        assert_close(G, product[t])


def test_criterion_that_is_convex_needs_no_pos_eig(problem):
    """G^k = E[hess_z C] of the cross-entropy, untouched."""
    tape = problem(criterion=CROSS_ENTROPY).record()
    assert torch.equal(pch(tape)[-1].dense(), tape.mean_hessian)
