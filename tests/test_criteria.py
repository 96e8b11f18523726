"""Criteria: closed forms against definitions written out here and differentiated by torch.func, sample by sample."""

import pytest
import torch

from optimizers.core import BERNOULLI, CRITERIA, CROSS_ENTROPY, SQUARED_ERROR, bounded
from optimizers.core.criteria import from_function


def _cross_entropy(logits, label):
    return torch.logsumexp(logits, 0) - (logits * _one_hot(logits, label)).sum()


def _eq_14(logits, label, delta=5.0, epsilon=0.2):
    p_y = (logits.exp() / logits.exp().sum() * _one_hot(logits, label)).sum()
    return 1 / (1 + torch.exp(delta * (p_y - epsilon)))


def _steep(logits, label):
    return _eq_14(logits, label, delta=11.0, epsilon=0.6)


def _squared_error(logits, target):
    return ((logits - target) ** 2).sum() / 2


def _binary_cross_entropies(logits, target):
    p = 1 / (1 + torch.exp(-logits))
    return -(target * p.log() + (1 - target) * (1 - p).log()).sum()


def _one_hot(logits, label):
    return (torch.arange(logits.shape[0]) == label).to(logits.dtype)


CASES = [
    pytest.param(CROSS_ENTROPY, _cross_entropy, id="cross-entropy"),
    pytest.param(bounded(), _eq_14, id="bounded"),
    pytest.param(bounded(delta=11.0, epsilon=0.6), _steep, id="bounded-steep"),
    pytest.param(SQUARED_ERROR, _squared_error, id="squared-error"),
    pytest.param(BERNOULLI, _binary_cross_entropies, id="bernoulli"),
    pytest.param(
        from_function(_binary_cross_entropies, convex=True, vectors=True),
        _binary_cross_entropies,
        id="bernoulli-from-function",
    ),
    pytest.param(from_function(_cross_entropy, convex=True), _cross_entropy, id="cross-entropy-from-function"),
    pytest.param(from_function(_eq_14, convex=False), _eq_14, id="bounded-from-function"),
]
every_case = pytest.mark.parametrize(("criterion", "definition"), CASES)


def _samples(classes, batch=7, vectors=False):
    generator = torch.Generator().manual_seed(classes)
    logits = 2 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    if vectors:
        return logits, torch.rand(batch, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (batch,), generator=generator)


def _each(function, logits, labels):
    return torch.stack([function(row, label) for row, label in zip(logits, labels, strict=True)])


@every_case
@pytest.mark.parametrize("classes", [2, 10])
def test_value_gradient_and_mean_hessian(assert_close, criterion, definition, classes):
    """C (Eq. (14) for the bounded one), grad_z C, E[hess_z C] and hess_z C v."""
    logits, labels = _samples(classes, vectors=criterion.vectors)
    assert_close(criterion.value(logits, labels), _each(definition, logits, labels), 1e-13)
    assert_close(criterion.gradient(logits, labels), _each(torch.func.jacrev(definition), logits, labels), 1e-13)
    hessians = _each(torch.func.hessian(definition), logits, labels)
    found = criterion.mean_hessian(logits, labels)
    assert_close(found.diag() if found.ndim == 1 else found, hessians.mean(0), 1e-13)
    vectors = torch.randn(logits.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert_close(criterion.product(logits, labels, vectors), torch.einsum("bij,bj->bi", hessians, vectors), 1e-12)


@pytest.mark.parametrize("criterion", [c for c in CRITERIA.values() if c.convex], ids=lambda criterion: criterion.name)
def test_drawn_targets_have_the_fisher_matrix_of_the_hessian(criterion):
    """E_y[grad_z C grad_z C^T] over targets that the model draws is hess_z C, for a convex criterion of this list."""
    logits = torch.tensor([[1.0, -0.5, 0.2]], dtype=torch.float64).expand(200_000, -1)
    targets = criterion.draw(logits, torch.Generator().manual_seed(0))
    gradient, hessian = criterion.gradient(logits, targets), criterion.mean_hessian(logits[:1], targets[:1])
    found = gradient.T @ gradient / len(gradient)
    assert (found - (hessian.diag() if hessian.ndim == 1 else hessian)).abs().max() < 0.01


def test_bounded_is_bounded_and_not_convex():
    """Eq. (14) lies in (0, 1), is 1/2 at p_y = epsilon, and its Hessian in the logits has negative eigenvalues."""
    logits, labels = _samples(10, batch=200)
    criterion = bounded()
    values = criterion.value(logits, labels)
    assert ((values > 0) & (values < 1)).all()
    assert torch.linalg.eigvalsh(criterion.mean_hessian(logits, labels))[0] < 0
    assert not criterion.convex
    half = bounded(epsilon=0.25).value(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([2]))
    assert half.item() == pytest.approx(0.5, rel=1e-15)


def test_cross_entropy_is_convex():
    """E[hess_z C] = E[diag(p) - p p^T] is positive semi-definite, and constant logits are its null space."""
    hessian = CROSS_ENTROPY.mean_hessian(*_samples(10))
    assert CROSS_ENTROPY.convex
    assert torch.linalg.eigvalsh(hessian)[0] > -1e-15
    assert hessian.sum(0).abs().max() < 1e-15


@pytest.mark.parametrize("criterion", [CROSS_ENTROPY, bounded(), BERNOULLI], ids=lambda criterion: criterion.name)
def test_confident_logits_stay_finite(criterion):
    """Gradient and Hessian vanish, and are not NaN, where softmax or sigmoid rounds to 0 or 1."""
    logits = torch.tensor([[800.0, -900.0, -800.0]], dtype=torch.float64)
    for label in range(3):
        labels = torch.eye(3, dtype=torch.float64)[[label]] if criterion.vectors else torch.tensor([label])
        assert criterion.value(logits, labels).isfinite().all()
        assert criterion.gradient(logits, labels).isfinite().all()
        assert criterion.mean_hessian(logits, labels).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delta": 0}, "delta must be above 0, got 0"),
        ({"delta": -5.0}, "delta must be above 0, got -5.0"),
        ({"delta": float("nan")}, "delta must be above 0, got nan"),
        ({"epsilon": 0}, r"epsilon must be in \(0, 1\), got 0"),
        ({"epsilon": 1.0}, r"epsilon must be in \(0, 1\), got 1.0"),
    ],
)
def test_bounded_refuses_misuse(arguments, message):
    """Eq. (14) needs delta > 0 and 0 < epsilon < 1."""
    with pytest.raises(ValueError, match=message):
        bounded(**arguments)


def test_from_function_names_itself():
    """A record names a criterion by its function, or as told."""
    assert from_function(_eq_14, convex=False).name == "_eq_14"
    assert from_function(_eq_14, convex=False, name="eq14").name == "eq14"
