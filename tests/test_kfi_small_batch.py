"""KFI of layers together, in a small batch: the directions of one by one, and each layer's failure its own."""

import pytest
import torch

from optimizers.core import CROSS_ENTROPY, FCNN, Gram, fisher
from optimizers.core.solvers import small_batch
from optimizers.core.solvers.inverses import INVERSES
from optimizers.core.solvers.kfi import kfi, kronecker, with_ones
from optimizers.core.solvers.solution import Status

OTHERS_BETWEEN = (10, 300, 200, 20, 150, 60)  # with 30 samples the layers 2 and 5 are solved together
WIDE = (40, 50, 30, 20)  # all are, with 9 samples


@pytest.fixture(params=[False, True], ids=["biases", "joint"])
def joint(request):
    return request.param


@pytest.fixture
def one_by_one(monkeypatch):
    """A function that solves layer by layer."""

    def solve(*arguments):
        with monkeypatch.context() as patched:
            patched.setattr(small_batch, "suits", lambda *sides: False)
            return kronecker(*arguments)

    return solve


def _arguments(tape, joint, damping=0.05):
    rows = [with_ones(layer.input) if joint else layer.input for layer in tape.layers]
    return tape.layers, fisher(tape), [Gram(one) for one in rows], damping, joint


@pytest.mark.parametrize(("sizes", "batch"), [(OTHERS_BETWEEN, 30), (WIDE, 9)])
@pytest.mark.parametrize("damping", [0.05, torch.tensor(1e-6, dtype=torch.float64)], ids=["number", "tensor"])
def test_the_directions_are_those_of_one_layer_by_the_other(
    problem, assert_close, one_by_one, sizes, batch, damping, joint
):
    """In every layer, whatever comes between."""
    arguments = _arguments(problem(sizes, batch=batch).record(), joint, damping)
    found, expected = kronecker(*arguments), one_by_one(*arguments)
    for weight, other in zip(found.weights, expected.weights, strict=True):
        assert_close(weight.dense(), other.dense(), 1e-9)
    for bias, other in zip(found.biases, expected.biases, strict=True):
        assert_close(bias, other, 1e-9)
    assert_close(found.pi, expected.pi, 1e-12)
    assert torch.equal(found.status, expected.status)
    assert found.iterations.tolist() == [[0, 0]] * len(arguments[0])
    assert found.residual.isnan().all()


def test_the_parts_of_a_solution_keep_the_places_of_their_layers(problem):
    """A status that only one layer has: the second, between layers that are solved by themselves."""
    tape = problem(OTHERS_BETWEEN, batch=30).record()
    tape.layers[1].input[0, 0] = torch.nan
    status = kfi(tape.layers, fisher(tape)).status
    assert (status[1] != Status.SOLVED).any()
    assert (status[[0, 2, 3, 4]] == Status.SOLVED).all()


@pytest.mark.parametrize("system", ["of the bias", "of G", "of A"])
@pytest.mark.parametrize("left", [torch.nan, 0.0], ids=["nan", "zero"])
def test_a_layer_whose_factorization_fails_takes_its_gradient(problem, monkeypatch, assert_close, system, left, joint):
    """And no other: the third one here, whatever the factorization left behind. A pivot of 0 has no inverse."""
    if joint and system == "of the bias":
        pytest.skip("a joint bias has no system of its own")
    arguments = _arguments(problem(WIDE, batch=9).record(), joint)
    sound, plain = kronecker(*arguments), torch.linalg.cholesky_ex

    def fail(systems, out):
        result = plain(systems, out=out)
        number = {"of the bias": 0, "of G": -2, "of A": -1}[system]
        result.info[number, 2] = 1
        systems[number, 2] = left
        return result

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fail)
    found, layers = kronecker(*arguments), arguments[0]
    weight_fails, bias_fails = joint or system != "of the bias", joint or system == "of the bias"
    expected = [
        -layers[2].weight_gradient if weight_fails else sound.weights[2].dense(),
        -layers[2].bias_gradient if bias_fails else sound.biases[2],
    ]
    assert_close(found.weights[2].dense(), expected[0])
    assert_close(found.biases[2], expected[1])
    failed = Status.FAILED_FACTORIZATION
    assert found.status[2].tolist() == [failed if fails else Status.SOLVED for fails in (weight_fails, bias_fails)]
    assert (found.status[:2] == Status.SOLVED).all()
    assert all(
        torch.equal(one.dense(), other.dense()) for one, other in zip(found.weights[:2], sound.weights[:2], strict=True)
    )


@pytest.mark.parametrize(
    ("call", "statuses"),
    [("cholesky_inverse", [Status.NOT_FINITE, Status.SOLVED]), ("cholesky_solve", [Status.SOLVED, Status.NOT_FINITE])],
)
def test_a_direction_that_is_not_finite_says_so(problem, monkeypatch, call, statuses):
    """The weight's and the bias's, each by itself."""
    plain = getattr(torch, call)
    monkeypatch.setattr(torch, call, lambda *matrices, **named: plain(*matrices, **named).mul_(torch.inf))
    tape = problem(WIDE, batch=9).record()
    assert kfi(tape.layers, fisher(tape)).status.tolist() == [statuses] * 3


def test_only_the_gram_matrix_of_delta_is_solved_together(problem, assert_close, one_by_one):
    """Not that of other rows, in whose span the gradient is not; nor the rank-one form of A."""
    tape = problem(WIDE, batch=9).record()
    rows = torch.randn(9, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    curvature = [Gram(rows), *fisher(tape)[1:]]
    for form in ("exact", "rank_one"):
        arguments = tape.layers, curvature, [INVERSES[form](layer.input) for layer in tape.layers], 0.05
        found, expected = kronecker(*arguments), one_by_one(*arguments)
        for weight, other in zip(found.weights, expected.weights, strict=True):
            assert_close(weight.dense(), other.dense())


@pytest.mark.parametrize("batch", [2, 300])
@pytest.mark.parametrize("form", ["exact", "gram", "factor"])
def test_inputs_beyond_all_scale_are_reported(form, batch):
    """Units are saturated then, deltas 0, and a damping of them is lost."""
    network = FCNN((512, 16, 3), "sigmoid", seed=0)
    tape = network.record(CROSS_ENTROPY, torch.full((batch, 512), 2.0**12), torch.zeros(batch, dtype=torch.long))
    status = kfi(tape.layers, fisher(tape), damping=1e-7, inverse=form).status
    assert status[0].tolist() == [Status.NOT_FINITE] * 2
    assert status[1, 1] in (Status.ILL_CONDITIONED, Status.FAILED_FACTORIZATION)
