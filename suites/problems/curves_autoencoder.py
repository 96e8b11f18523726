"""The deep autoencoder of CURVES: 30,000 images of curves through three random points, made here and kept.

symbol            shape          meaning
points            [N, 3, 2]      of each curve, uniform from 3 to 24: six numbers decide an image
path              [N, 2, T]      the parabola through the three points, at times 0, 1/2 and 1
distance          [N, 28, 28]    of a pixel from the path, squared
ink               [N, 28, 28]    exp(-distance / 1.2)

Hinton's file has 20,000 training and 10,000 test images as well, of curves through three random points (Hinton and
Salakhutdinov 2006). The program that drew them was never published, so the pen, its width and where points may lie are
choices made here, and losses are not those of published tables.
"""

from pathlib import Path

import numpy as np

from suites.harness.data.images import cached
from suites.harness.data.problem import Arrays, Problem

_TRAIN, _TEST, _SIDE = 20_000, 10_000, 28
_TIMES = np.linspace(0, 1, 96)  # neighbours are less than a pixel apart
_WIDTH = 1.2  # of the pen, in squared pixels
_CHUNK = 100  # images at a time


def draw(points: np.ndarray) -> np.ndarray:
    """Bytes [N, 784] of the curves through ``points`` [N, 3, 2]."""
    begin, middle, end = points[:, :, :, None].swapaxes(0, 1)
    bend = 2 * middle - (begin + end) / 2  # the control point of the parabola
    path = (1 - _TIMES) ** 2 * begin + 2 * _TIMES * (1 - _TIMES) * bend + _TIMES**2 * end
    pixels = np.arange(float(_SIDE))
    across, down = (((path[:, axis, :, None] - pixels) ** 2).astype(np.float32) for axis in (0, 1))
    distance = (down[:, :, :, None] + across[:, :, None, :]).min(1)
    return np.rint(255 * np.exp(-distance.astype(np.float64) / _WIDTH)).astype(np.uint8).reshape(len(points), -1)


def read(root: Path, seed: int, download: bool) -> Arrays:
    """The same images for every seed."""
    points = np.random.default_rng(0).uniform(3, 24, (_TRAIN + _TEST, 3, 2))
    key = ("curves", points.tobytes(), len(_TIMES), _WIDTH)
    images = cached(
        key,
        (len(points), _SIDE**2),
        lambda: np.concatenate([draw(points[i : i + _CHUNK]) for i in range(0, len(points), _CHUNK)]),
    )
    return Arrays((images[:_TRAIN], None), (images[_TRAIN:], None))


problem = Problem(
    summary="30,000 images of curves, 28x28, as their own targets, made by a program",
    network=(784, 400, 200, 100, 50, 25, 6, 25, 50, 100, 200, 400, 784),
    read=read,
    criterion="bernoulli",
    metric="test loss",
    targets=(140.0, 120.0, 100.0),
    scaling="unit",
    activation=(*["sigmoid"] * 5, "linear", *["sigmoid"] * 5),
    initialization="sparse",
    batch_size=1000,
    epochs=20,
)
