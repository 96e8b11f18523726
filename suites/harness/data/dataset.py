"""The data of a problem, whole on the device; bytes are normalized one batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suites.harness.data.images import cache_folder
from suites.harness.data.problem import Arrays, DataError, Problem
from suites.harness.names import said


@dataclass(frozen=True, eq=False)
class Split:
    """Images [N, D] on the device, as bytes or as network inputs, and targets: labels, int64 [N], or vectors [N, C].
    The targets of an autoencoder are the same tensor as its images.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set with the same classes, or with targets that are vectors.

    ``scale`` and ``shift`` [D] turn bytes into network inputs: ``bytes * scale + shift``.
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

    @property
    def vectors(self) -> bool:
        """Whether targets are vectors rather than class indices."""
        return not self.classes

    @property
    def outputs(self) -> int:
        """The outputs that a network needs: at least the number of classes, or exactly the entries of a vector."""
        return len(self.classes) or self.train.targets.shape[1]

    def part(self, split: Split, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Network inputs [B, D] and targets of some rows; an autoencoder's targets are its inputs."""
        inputs = self.inputs(split.images[rows])
        return inputs, inputs if split.targets is split.images else split.targets[rows]

    def inputs(self, images: Tensor) -> Tensor:
        """Network inputs [B, D], in the dtype of ``scale``, of images [B, D]."""
        if images.is_floating_point():
            return images
        return images.to(self.scale.dtype).mul_(self.scale).add_(self.shift)

    def batches(self, batch_size: int, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of the training set: inputs [B, D] and targets. The order depends on ``seed`` and ``epoch``
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
        rows = order[: total - total % batch_size].to(self.train.images.device).split(batch_size)
        return (self.part(self.train, batch) for batch in rows)

    def with_validation(self, share: float) -> "Dataset":
        """Hold out a share of the training images, by class where there are classes, as the test set. They are the same
        images in every call.
        """
        images, targets = self.train.images, self.train.targets
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        classes = torch.zeros(len(order)) if self.vectors else targets.cpu()[order]
        held = torch.zeros(len(order), dtype=torch.bool)
        for label in classes.unique():
            of_class = (classes == label).nonzero().squeeze(1)
            held[of_class[: round(share * len(of_class))]] = True

        def split(rows: Tensor) -> Split:
            chosen = images[rows]
            return Split(chosen, chosen if targets is images else targets[rows])

        train, validation = (split(order[mask].to(images.device)) for mask in (~held, held))
        return replace(self, train=train, test=validation)

    def chunks(self, split: Split, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """A whole split in order: inputs [up to ``size``, D] and targets."""
        return (self.part(split, slice(start, start + size)) for start in range(0, len(split), size))


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
        raise DataError(f"problem {problem.name}: reading its data failed: {said(error)}") from error
    if not isinstance(arrays, Arrays):
        raise DataError(f"problem {problem.name}: read must return Arrays, returned {type(arrays).__name__}")
    (train, train_targets), (test, test_targets) = (
        _checked(f"problem {problem.name}, {name}", *part, len(arrays.classes))
        for name, part in (("training set", arrays.train), ("test set", arrays.test))
    )
    pairs = [("inputs", train, test)]
    if train_targets is not None and test_targets is not None and not arrays.classes:
        pairs.append(("targets", train_targets, test_targets))
    elif (train_targets is None) != (test_targets is None):
        raise DataError(f"problem {problem.name}: the targets of one set are None, and those of the other are not")
    for what, one, other in pairs:
        if one.shape[1] != other.shape[1] or one.is_floating_point() != other.is_floating_point():
            raise DataError(
                f"problem {problem.name}: {what} of the training set, {_shown(one)}, must be like those of the test "
                f"set, {_shown(other)}"
            )
    scale, shift = _scaling(problem, train, test)
    if train.is_floating_point():
        train, test = ((part * scale + shift).to(dtype) for part in (train, test))

    def split(images: Tensor, targets: Tensor | None) -> Split:
        images = images.to(device)
        if targets is None:
            return Split(images, images)
        return Split(images, targets.to(device, dtype if targets.is_floating_point() else targets.dtype))

    return Dataset(
        problem.name,
        split(train, train_targets),
        split(test, test_targets),
        tuple(arrays.classes),
        scale.to(device, dtype),
        shift.to(device, dtype),
    )


def _checked(where: str, inputs: np.ndarray, targets: np.ndarray | None, classes: int) -> tuple[Tensor, Tensor | None]:
    """Inputs, uint8 or float64 [N, D], and targets: labels, int64 [N], vectors, float64 [N, C], or None."""
    inputs, labels = np.asarray(inputs), np.asarray(inputs if targets is None else targets)
    fits = (targets is None and not classes) or (labels.ndim == (1 if classes else 2) and len(labels) == len(inputs))
    if inputs.ndim != 2 or not inputs.size or not labels.size or not fits:
        wanted = "labels [N]" if classes else "without classes targets [N, C] or None"
        got = None if targets is None else list(labels.shape)
        raise DataError(f"{where}: inputs must be [N, D] and {wanted}, got {list(inputs.shape)} and {got}")
    images = torch.from_numpy(inputs if inputs.dtype == np.uint8 else _finite(where, "inputs", inputs))
    if targets is None:
        return images, None
    labels = _finite(where, "labels" if classes else "targets", labels)
    if not classes:
        return images, torch.from_numpy(labels)
    if not 0 <= labels.min() <= labels.max() < classes or (labels % 1).any():
        raise DataError(
            f"{where}: labels must be whole numbers from 0 to {classes - 1}, got {labels.min():g} to {labels.max():g}"
        )
    return images, torch.from_numpy(labels.astype(np.int64))


def _finite(where: str, what: str, values: np.ndarray) -> np.ndarray:
    """As float64 [N, ...]."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: {what} must be numbers, got {values.dtype}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        row = np.argmin(np.isfinite(values).reshape(len(values), -1).all(1))
        raise DataError(f"{where}: {what} must be finite, row {row} is not")
    return values


def _scaling(problem: Problem, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of the inputs, float64 [D]."""
    features = train.shape[1]
    if problem.scaling == "unit":
        floats = train.is_floating_point()
        least, most = (min(train.min(), test.min()).item(), max(train.max(), test.max()).item()) if floats else (0, 1)
        if least < 0 or most > 1:
            raise DataError(
                f'problem {problem.name}: with scaling "unit" inputs must be bytes or numbers from 0 to 1, got '
                f"{least:g} to {most:g}"
            )
        ones = torch.ones(features, dtype=torch.float64)
        return ones if floats else ones / 255, 0 * ones
    channels = problem.channels or features
    if features % channels:
        raise DataError(f"problem {problem.name}: {features} inputs cannot be divided into {channels} channels")
    # deviates: inputs are normalized by channel; the paper says nothing of its inputs
    return (_normalize_floats if train.is_floating_point() else _normalize_bytes)(train, channels)


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
