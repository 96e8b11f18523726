"""The data of a problem, whole on the device; bytes are normalized one batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suites.harness.problems.images import cache_folder
from suites.harness.problems.problem import Arrays, DataError, Problem


@dataclass(frozen=True, eq=False)
class Split:
    """Images [N, D] on the device, bytes as they were read or normalized floats, and labels, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set with the same classes.

    ``scale`` and ``shift`` [D] normalize bytes, ``bytes * scale + shift``, with the mean and the standard deviation of
    each channel over the training set.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    scale: Tensor
    shift: Tensor

    @property
    def features(self) -> int:
        """D, the inputs of a network."""
        return len(self.scale)

    def inputs(self, images: Tensor) -> Tensor:
        """Network inputs [B, D], in the dtype of ``scale``, of images [B, D]."""
        if images.is_floating_point():
            return images
        return images.to(self.scale.dtype).mul_(self.scale).add_(self.shift)

    def batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of the training set: inputs [B, D] and labels [B]. The order depends on ``seed`` and ``epoch``
        (both 0 or more) and not on the device. Images that do not fill a batch are dropped.

        Raises:
            DataError: at once, if the batch size is below 1 or above the number of images.
        """
        total = len(self.train)
        if not 1 <= batch_size <= total:
            raise DataError(f"batch size must be from 1 to {total}, the size of the training set, got {batch_size}")
        # mixed by numpy, so that (seed 0, epoch 1) and (seed 1, epoch 0) are unlike
        mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
        order = torch.randperm(total, generator=torch.Generator().manual_seed(mixed))
        # deviates: the last, incomplete batch is left out; the paper says nothing of it
        rows = order[: total - total % batch_size].to(self.train.labels.device).split(batch_size)
        return ((self.inputs(self.train.images[batch]), self.train.labels[batch]) for batch in rows)

    def with_validation(self, share: float) -> "Dataset":
        """Hold out a share of the training images of each class, always the same ones, in place of the test set."""
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
    problem: Problem,
    *,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    download: bool = True,
) -> Dataset:
    """Read the data of a problem, check them, and put them on a device.

    Args:
        problem: its ``read`` says what ``data_root`` must hold, and what ``seed`` and ``download`` do.
        data_root: by default the cache folder.
        device: of the data.
        dtype: of the inputs, a floating one.

    Raises:
        DataError: one line, if the data are missing, damaged or inconsistent.
    """
    if not dtype.is_floating_point:
        raise DataError(f"dtype of the inputs must be floating, got {dtype}")
    try:
        arrays = problem.read(Path(data_root) if data_root else cache_folder(), seed, download)
    except DataError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise DataError(f"problem {problem.name}: reading its data failed: {type(error).__name__}: {said}") from error
    if not isinstance(arrays, Arrays):
        raise DataError(f"problem {problem.name}: read must return Arrays, returned {type(arrays).__name__}")
    (train, train_labels), (test, test_labels) = (
        _checked(f"problem {problem.name}, {name}", *part, len(arrays.classes))
        for name, part in (("training set", arrays.train), ("test set", arrays.test))
    )
    features = train.shape[1]
    if test.shape[1] != features or test.is_floating_point() != train.is_floating_point():
        raise DataError(
            f"problem {problem.name}: inputs of the training set, {_shown(train)}, must be like those of the test set, "
            f"{_shown(test)}"
        )
    channels = problem.channels or features
    if features % channels:
        raise DataError(f"problem {problem.name}: {features} inputs cannot be divided into {channels} channels")
    # deviates: inputs are normalized by channel; the paper says nothing of its inputs
    scale, shift = (_normalize_floats if train.is_floating_point() else _normalize_bytes)(train, channels)
    if train.is_floating_point():
        train, test = ((part * scale + shift).to(dtype) for part in (train, test))
    return Dataset(
        problem.name,
        Split(train.to(device), train_labels.to(device)),
        Split(test.to(device), test_labels.to(device)),
        tuple(arrays.classes),
        scale.to(device, dtype),
        shift.to(device, dtype),
    )


def _checked(where: str, inputs: np.ndarray, labels: np.ndarray, classes: int) -> tuple[Tensor, Tensor]:
    """Inputs, uint8 or float64 [N, D], and labels, int64 [N]."""
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if inputs.ndim != 2 or not inputs.size or labels.shape != inputs.shape[:1]:
        raise DataError(
            f"{where}: inputs must be [N, D] and labels [N], got {list(inputs.shape)} and {list(labels.shape)}"
        )
    if inputs.dtype.kind not in "biuf" or labels.dtype.kind not in "biuf":
        raise DataError(f"{where}: inputs and labels must be numbers, got {inputs.dtype} and {labels.dtype}")
    if inputs.dtype != np.uint8:
        inputs = inputs.astype(np.float64)
        if not np.isfinite(inputs).all():
            raise DataError(f"{where}: inputs must be finite, row {np.argmin(np.isfinite(inputs).all(1))} is not")
    if not 0 <= labels.min() <= labels.max() < classes or (labels % 1).any():
        raise DataError(
            f"{where}: labels must be whole numbers from 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )
    return torch.from_numpy(inputs), torch.from_numpy(labels.astype(np.int64))


def _shown(inputs: Tensor) -> str:
    return f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"


def _normalize_bytes(images: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """1 / std and -mean / std of each channel, float64 [D]: exact, from a histogram of each channel."""
    planes = images.view(len(images), channels, -1)
    counts = torch.stack([torch.bincount(planes[:, c].flatten(), minlength=256) for c in range(channels)]).double()
    levels, total = torch.arange(256.0, dtype=torch.float64), counts.sum(1)
    mean = counts @ levels / total
    std = ((levels - mean[:, None]).square() * counts).sum(1).div(total).sqrt()
    std[std == 0] = 255  # a constant channel is only centred: 1 on the scale from 0 to 1
    return _by_input(mean, std, planes.shape[2])


def _normalize_floats(inputs: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """1 / std and -mean / std of each channel, float64 [D]."""
    planes = inputs.view(len(inputs), channels, -1)
    mean, std = planes.mean((0, 2)), planes.std((0, 2), correction=0)
    std[std <= 1e-12 * planes.abs().amax((0, 2))] = 1  # a constant channel, up to rounding, is only centred
    return _by_input(mean, std, planes.shape[2])


def _by_input(mean: Tensor, std: Tensor, repeats: int) -> tuple[Tensor, Tensor]:
    return (1 / std).repeat_interleave(repeats), (-mean / std).repeat_interleave(repeats)
