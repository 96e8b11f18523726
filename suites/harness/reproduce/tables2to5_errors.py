"""The distance of curvature matrices from the true Hessian in the biases, layer by layer.

symbol                             name                 shape
G~^t                               G                    [n_t, n_t]   of a curvature
|E[hess_{b^t} C]|                  H, a target          [n_t, n_t]   absolute values of the eigenvalues
|| G~^t - |E[hess_{b^t} C]| ||_F   name of a curvature  one number a layer
|| E[hess_{b^t} C] ||_F            hessian              one number a layer
both sides of Eq. (7), their roots expectation, bound   one number a layer but the last
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from optimizers.core import CURVATURES, FCNN, Criterion, Layer, Tape
from optimizers.core.curvature import pos_eig
from optimizers.core.expectation import expectation

_SAMPLES = {"cpu": 16, "cuda": 128}  # of a chunk: 6 MB each in the paper's networks


def layer_errors(tape: Tape, curvatures: Sequence[str]) -> dict[str, list[float]]:
    """The errors on the samples of a tape, first layer to last.

    Returns:
        For each curvature, by name, its distances to the target; ``hessian``, the norms of the target; ``expectation``
        and ``bound``, for each layer but the last.
    """
    exact = expectation(tape, _SAMPLES[tape.logits.device.type])
    targets = [pos_eig(mean) for mean in exact.means]
    distances = {}
    for name in curvatures:
        pairs = zip(CURVATURES[name](tape), targets, strict=True)
        distances[name] = [(G.dense() - H).norm().item() for G, H in pairs]
    return {
        **distances,
        "hessian": [H.norm().item() for H in targets],
        "expectation": exact.errors,
        "bound": exact.bounds,
    }


def record_in_chunks(network: FCNN, criterion: Criterion, chunks: Iterable[tuple[Tensor, Tensor]]) -> Tape:
    """One tape of many samples, recorded a chunk at a time, without the inputs of the first layer.

    No curvature needs those inputs, which take most of a tape's memory: 600 kB a sample of ImageNet-10.
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
