"""Hessian-free optimization, against dense matrices in float64."""

from copy import deepcopy

import pytest
import torch

from optimizers.block_hf import BlockHF
from optimizers.core import BERNOULLI, CRITERIA, FCNN, SQUARED_ERROR, bounded
from optimizers.hf import HF, minimize

CONVEX = [criterion for criterion in CRITERIA.values() if criterion.convex]


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_products_are_those_of_the_dense_matrix(problem, assert_close, criterion):
    """G v = E[J^T hess_z C J] v."""
    case = problem(criterion=criterion, activation="tanh")
    shapes = [(torch.randn_like(linear.weight), torch.randn_like(linear.bias)) for linear in case.network.linears]
    found = case.record().gauss_newton_product(shapes)
    flat, product = (torch.cat([part.flatten() for pair in pairs for part in pair]) for pairs in (shapes, found))
    assert_close(product, case.gauss_newton() @ flat.detach(), 1e-11)


def test_cg_against_a_dense_solve(assert_close):
    """Without an early stop it solves A d = -grad from any start; the models are those of the iterates."""
    generator = torch.Generator().manual_seed(0)
    root, gradient, start = (torch.randn(*shape, generator=generator).double() for shape in ((12, 12), (12,), (12,)))
    A = root @ root.T + torch.eye(12)
    iterates = minimize(lambda v: A @ v, gradient, start, max_iter=12)
    assert_close(iterates[-1][0], torch.linalg.solve(A, -gradient), 1e-8)
    for x, model in iterates:
        assert model == pytest.approx((gradient @ x + x @ A @ x / 2).item(), abs=1e-9)


def test_cg_stops_when_the_model_no_longer_falls():
    """Martens' rule: a tail of tiny eigenvalues is not worth hundreds of iterations."""
    eigenvalues = torch.logspace(0, -9, 400, dtype=torch.float64)
    products = []

    def product(v):
        products.append(v)
        return eigenvalues * v

    minimize(product, torch.cat([torch.ones(40), 1e-6 * torch.ones(360)]).double(), torch.zeros(400).double(), 400)
    assert 11 <= len(products) < 200


@pytest.mark.parametrize("make", [HF, BlockHF])
def test_one_step_is_newtons_on_a_quadratic(assert_close, make):
    """A linear network with squared error is a quadratic: a step without damping ends at least squares."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(40, width, generator=generator).double() for width in (5, 3))
    network = FCNN((5, 3), dtype=torch.float64)
    optimizer = make(network.parameters(), damping=1e-12, max_iter=60, criterion=SQUARED_ERROR)
    optimizer.step(network.record(SQUARED_ERROR, x, y))
    with_ones = torch.cat([x, torch.ones(40, 1).double()], dim=1)
    expected = torch.linalg.lstsq(with_ones, y).solution.T
    (linear,) = network.linears
    assert_close(torch.cat([linear.weight, linear.bias[:, None]], dim=1).detach(), expected, 1e-6)


@pytest.mark.parametrize("make", [HF, BlockHF])
@pytest.mark.parametrize("criterion", CONVEX, ids=lambda criterion: criterion.name)
def test_no_step_raises_the_loss_of_its_batch(problem, make, criterion):
    """Backtracking and the line search take care of that, also where the first damping is far too small."""
    case = problem(criterion=criterion)
    optimizer, losses = make(case.network.parameters(), damping=1e-6, criterion=criterion), []
    for _ in range(8):
        tape = case.record()
        losses.append(tape.loss.item())
        optimizer.step(tape)
        assert tape.loss_now().item() <= losses[-1]
    assert losses[-1] < losses[0]


def test_damping_follows_the_model(problem):
    """lambda falls by 2/3 where the model predicts the loss, and rises by 3/2 where it does not."""
    case = problem(criterion=BERNOULLI)
    careful = HF(case.network.parameters(), damping=1e3, criterion=BERNOULLI)  # steps so short that any model holds
    careful.step(case.record())
    assert careful.param_groups[0]["damping"] == pytest.approx(1e3 * 2 / 3)
    far = problem(criterion=BERNOULLI, activation="softplus")
    for linear in far.network.linears:
        linear.weight.data.mul_(8)
    bold = HF(far.network.parameters(), damping=1e-9, criterion=BERNOULLI)  # a step far beyond where the model holds
    bold.step(far.record())
    assert bold.param_groups[0]["damping"] == pytest.approx(1e-9 * 3 / 2)


def test_blocks_leave_out_what_lies_between_layers(problem, assert_close):
    """The directions solve each layer's diagonal block of G + lambda I; those of HF solve all of it."""
    case = problem()
    G, tape = (
        case.gauss_newton() + 0.3 * torch.eye(sum(p.numel() for p in case.network.parameters())),
        case.record(),
    )
    gradient = torch.cat(
        [part.flatten() for layer in tape.layers for part in (layer.weight_gradient, layer.bias_gradient)]
    )
    sizes = [layer.weight.numel() + layer.bias.numel() for layer in tape.layers]
    blocks = torch.block_diag(
        *(G[row - size : row, row - size : row] for row, size in zip(torch.tensor(sizes).cumsum(0), sizes, strict=True))
    )
    for make, matrix in ((HF, G), (BlockHF, blocks)):
        network = deepcopy(case.network)
        optimizer = make(network.parameters(), damping=0.3, max_iter=200)
        optimizer.step(network.record(case.criterion, case.x, case.labels))
        found = torch.cat([optimizer.state[parameter]["direction"].flatten() for parameter in network.parameters()])
        assert_close(found, torch.linalg.solve(matrix, -gradient), 0.02)  # as near as CG's stopping rule lets it come


def test_what_is_frozen_stays(problem):
    """A parameter without requires_grad keeps its value, and the others find their way without it."""
    case = problem()
    frozen = case.network.linears[1].weight.requires_grad_(False)
    before, first = frozen.clone(), case.record().loss
    optimizer = HF(case.network.parameters())
    for _ in range(3):
        optimizer.step(case.record())
    assert torch.equal(frozen, before)
    assert case.record().loss < first


def test_misuse_is_refused(problem):
    parameters = list(problem().network.parameters())
    with pytest.raises(ValueError, match="convex"):
        HF(parameters, criterion=bounded())
    with pytest.raises(ValueError, match="damping must be above 0, got 0"):
        HF(parameters, damping=0)
    with pytest.raises(ValueError, match="one parameter group, got 2"):
        HF([{"params": parameters[:2]}, {"params": parameters[2:]}])
