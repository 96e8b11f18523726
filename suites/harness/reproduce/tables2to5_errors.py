"""How far curvature matrices are from the true Hessian in the biases, layer by layer.

symbol                                       name          shape
G~^t                                         G             [n_t, n_t]   of a curvature
|E[hess_{b^t} C]|                            target        [n_t, n_t]   absolute values of the eigenvalues
|| G~^t - |E[hess_{b^t} C]| ||_F             curvatures    one number a layer
|| E[hess_{b^t} C] ||_F                      hessian       one number a layer
both sides of Eq. (7), their roots           expectation, bound   one number a layer but the last
(sum over t of the squares)^(1/2)            total         one number
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.core import CURVATURES, FCNN, Criterion, Layer, Tape
from optimizers.core.curvature import pos_eig
from optimizers.core.expectation import expectation

_SAMPLES = {"cpu": 16, "cuda": 128}  # of a chunk: 6 MB each in the paper's networks
_NOT_CURVATURES = ("hessian", "expectation", "bound")  # in the JSON of a record, beside the curvatures


@dataclass(frozen=True)
class LayerErrors:
    """Errors at one iterate, first layer to last.

    curvatures: by name, the distance to the target.
    hessian: the norm of the target itself.
    expectation: the error of Eq. (6), for each layer but the last.
    bound: the bound of this error, Eq. (7).
    """

    curvatures: Mapping[str, list[float]]
    hessian: list[float]
    expectation: list[float]
    bound: list[float]

    def to_json(self) -> dict[str, list[float]]:
        """One flat object, as it stands in a record."""
        return {**self.curvatures, **{name: getattr(self, name) for name in _NOT_CURVATURES}}

    @classmethod
    def from_json(cls, values: Mapping[str, list[float]]) -> "LayerErrors":
        """Older records have neither ``expectation`` nor ``bound``: these are empty then."""
        curvatures = {name: value for name, value in values.items() if name not in _NOT_CURVATURES}
        return cls(curvatures, *(values.get(name, []) for name in _NOT_CURVATURES))


def layer_errors(tape: Tape, curvatures: Sequence[str]) -> LayerErrors:
    """The errors of curvatures and of the expectation approximation on the samples of a tape."""
    exact = expectation(tape, _SAMPLES[tape.logits.device.type])
    targets = [pos_eig(mean) for mean in exact.means]
    distances = {name: _distances(CURVATURES[name](tape), targets) for name in curvatures}
    return LayerErrors(distances, [target.norm().item() for target in targets], exact.errors, exact.bounds)


def total(errors: Iterable[float]) -> float:
    """The root of the sum of squares over layers."""
    return math.hypot(*errors)


def _distances(factors: list[Tensor], targets: list[Tensor]) -> list[float]:
    return [(G - target).norm().item() for G, target in zip(factors, targets, strict=True)]


def record_in_chunks(network: FCNN, criterion: Criterion, chunks: Iterable[tuple[Tensor, Tensor]]) -> Tape:
    """One tape of many samples, recorded a chunk at a time, without the inputs of the first layer.

    No curvature needs those inputs, which are most of what a tape holds: 600 kB a sample of ImageNet-10.
    """
    tapes = []
    for x, labels in chunks:
        tape = network.record(criterion, x, labels)
        tape.layers[0].input = x[:, :0]
        tapes.append(tape)
    layers = [_joined(parts) for parts in zip(*(tape.layers for tape in tapes), strict=True)]
    logits, labels = torch.cat([tape.logits for tape in tapes]), torch.cat([tape.labels for tape in tapes])
    return Tape(layers, criterion, logits, labels)


def _joined(parts: tuple[Layer, ...]) -> Layer:
    """One layer of several tapes of the same network."""
    first = parts[0]
    fed_by = (first.fed_by[0], torch.cat([p.fed_by[1] for p in parts if p.fed_by])) if first.fed_by else None
    pullback = torch.cat([p.pullback for p in parts if p.pullback is not None]) if first.fed_by else None
    inputs, deltas = torch.cat([p.input for p in parts]), torch.cat([p.delta for p in parts])
    return Layer(first.weight, first.bias, inputs, fed_by, deltas, pullback)
