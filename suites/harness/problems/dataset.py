"""Data sets by name, loaded whole onto the device as uint8, and normalized one batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suites.harness.names import unknown
from suites.harness.problems.images import DataError, cache_folder
from suites.harness.problems.sources import SOURCES

DATASETS: dict[str, str] = {name: source.summary for name, source in SOURCES.items()}


@dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 [N, D], each channel by channel, and labels, int64 [N], on the device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set with the same classes.

    ``scale`` and ``shift`` [D] normalize pixels with the mean and standard deviation of each channel over the training
    set: ``pixels * scale + shift``. ``synthetic``: the images are noise, good for time and memory alone.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    scale: Tensor
    shift: Tensor
    synthetic: bool

    @property
    def features(self) -> int:
        """D, the inputs of a network."""
        return len(self.scale)

    def inputs(self, images: Tensor) -> Tensor:
        """Network inputs [B, D], in the dtype of ``scale``, of images [B, D]."""
        return images.to(self.scale.dtype).mul_(self.scale).add_(self.shift)

    def batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of the training set: inputs [B, D] and labels [B], in an order that depends on ``seed`` and
        ``epoch`` (both 0 or more) and not on the device. Images that do not fill a batch are dropped.

        Raises:
            DataError: if the batch size is below 1 or above the number of images; at once, before the first batch.
        """
        total = len(self.train)
        if not 1 <= batch_size <= total:
            raise DataError(f"batch size must be from 1 to {total}, the size of the training set, got {batch_size}")
        # mixed by numpy, so that (seed 0, epoch 1) and (seed 1, epoch 0) are unlike
        mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
        order = torch.randperm(total, generator=torch.Generator().manual_seed(mixed))
        rows = order[: total - total % batch_size].to(self.train.labels.device).split(batch_size)
        return ((self.inputs(self.train.images[batch]), self.train.labels[batch]) for batch in rows)

    def with_validation(self, share: float) -> "Dataset":
        """A share of the training images of each class, drawn once and for all, in place of the test set."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        classes = self.train.labels.cpu()[order]
        held = torch.zeros(len(order), dtype=torch.bool)
        for label in range(len(self.classes)):
            of_class = (classes == label).nonzero().squeeze(1)
            held[of_class[: round(share * len(of_class))]] = True
        train, validation = (
            Split(self.train.images[rows], self.train.labels[rows])
            for rows in (order[mask].to(self.train.labels.device) for mask in (~held, held))
        )
        return replace(self, train=train, test=validation)

    def chunks(self, split: Split, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """A whole split in order: inputs [up to ``size``, D] and labels."""
        pieces = zip(split.images.split(size), split.labels.split(size), strict=True)
        return ((self.inputs(images), labels) for images, labels in pieces)


def load(
    name: str,
    *,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    download: bool = True,
) -> Dataset:
    """Load a data set onto a device.

    Args:
        name: one of ``DATASETS``.
        data_root: folder of the images of ``cifar10`` and ``imagenet10``; by default the cache folder. In it, or in
            its subfolder ``cifar10``, ``imagenet10`` or ``imagenet``, are ``train`` and ``test`` (or ``val``), with a
            folder of images for each class; or ``cifar-10-batches-py``, as published. Images of ``imagenet10`` that
            are not 224 x 224 are squashed to it (bilinear; the aspect ratio is not kept).
        device, dtype: where the images are kept; the floating dtype of inputs.
        seed: of synthetic images, and of the ten classes drawn from an ImageNet folder with more.
        download: fetch CIFAR-10 (170 MB) into ``data_root`` if it is not there.

    Raises:
        DataError: if the name is unknown, or the data are missing, damaged or inconsistent.
    """
    if name not in SOURCES:
        raise DataError(unknown("data set", name, SOURCES))
    if not dtype.is_floating_point:
        raise DataError(f"dtype of the inputs must be floating, got {dtype}")
    source = SOURCES[name]
    arrays = source.read(Path(data_root) if data_root else cache_folder(), seed, download)
    train, test = (_split(name, *part, len(arrays.classes)) for part in (arrays.train, arrays.test))
    return Dataset(
        name,
        Split(train.images.to(device), train.labels.to(device)),
        Split(test.images.to(device), test.labels.to(device)),
        arrays.classes,
        *(values.to(device, dtype) for values in _normalization(train.images, source.channels)),
        synthetic=name.startswith("synthetic-"),
    )


def _split(name: str, pixels: np.ndarray, labels: np.ndarray, classes: int) -> Split:
    with np.errstate(invalid="ignore"):
        images = pixels.astype(np.uint8, copy=False)
    if images is not pixels and not np.array_equal(images, pixels):  # not a number, infinite, fractional, out of range
        raise DataError(f"data set {name}: pixels must be whole numbers from 0 to 255")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"data set {name}: labels must be below {classes}, got {labels.min()} to {labels.max()}")
    return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _normalization(images: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """1 / std and -mean / std of each channel, float64 [D]: exact, from a histogram of each channel."""
    planes = images.view(len(images), channels, -1)
    counts = torch.stack([torch.bincount(planes[:, c].flatten(), minlength=256) for c in range(channels)]).double()
    levels, total = torch.arange(256.0, dtype=torch.float64), counts.sum(1)
    mean = counts @ levels / total
    std = ((levels - mean[:, None]).square() * counts).sum(1).div(total).sqrt()
    std[std == 0] = 255  # a constant channel is only centred: 1 on the scale from 0 to 1
    repeats = planes.shape[2]
    return (1 / std).repeat_interleave(repeats), (-mean / std).repeat_interleave(repeats)
