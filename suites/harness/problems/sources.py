"""Where the images of each data set come from: scikit-learn, image folders, the published CIFAR-10 files, or noise."""

import io
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from suites.harness.problems.images import DataError, class_names, read_folder

_CLASSES = 10
_OFFICIAL = "cifar-10-batches-py"  # the folder that the archive of CIFAR-10 unpacks to
_TIMEOUT_SECONDS = 10.0


class Arrays(NamedTuple):
    """What a source gives: pixels [N, D], channel by channel, and labels [N] of both splits."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...]


class Source(NamedTuple):
    """A line about a data set, the channels of its images, and how to read it."""

    summary: str
    channels: int
    read: Callable[[Path, int, bool], Arrays]  # (data root, seed, whether to download)


def _digits(root: Path, seed: int, download: bool) -> Arrays:
    from sklearn.datasets import load_digits  # imported late: it takes most of a second
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    # the same split for every seed, so that runs differ in their training alone
    parts: list[Any] = train_test_split(
        digits.data, digits.target, test_size=360, stratify=digits.target, random_state=0
    )
    train, test, train_labels, test_labels = parts
    return Arrays((train, train_labels), (test, test_labels), tuple("0123456789"))


def _synthetic(train: int, test: int, features: int) -> Callable[[Path, int, bool], Arrays]:
    def read(root: Path, seed: int, download: bool) -> Arrays:
        generator = np.random.default_rng(seed)

        def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
            pixels = generator.integers(256, size=(count, features), dtype=np.uint8)
            return pixels, generator.integers(_CLASSES, size=count)

        return Arrays(noise(train), noise(test), tuple("0123456789"))

    return read


def _imagenet10(root: Path, seed: int, download: bool) -> Arrays:
    places = (root / "imagenet10", root / "imagenet", root)
    folders = _folders(places, ("val", "test"))  # ImageNet's own test folder has no labels
    if folders is None:
        raise _missing("imagenet10", places, "imagenet10/{train,val}/<wnid>/ with images of ten ImageNet classes")
    classes = _common_classes(*folders)
    if len(classes) > _CLASSES:
        drawn = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))[:_CLASSES]
        classes = sorted(classes[i] for i in drawn.tolist())
    return _read(folders, classes, 224, resize=True)


def _cifar10(root: Path, seed: int, download: bool) -> Arrays:
    places = (root / "cifar10", root)
    folders = _folders(places, ("test", "val"))
    if folders is not None:
        return _read(folders, _common_classes(*folders), 32, resize=False)
    for place in places:
        if (place / _OFFICIAL).is_dir():
            return _official(place)
    problem = _missing("cifar10", places, f"cifar10/{{train,test}}/<class>/ or {_OFFICIAL}/, as published")
    if not download:
        raise problem
    try:
        _download(root)
    except (OSError, RuntimeError, HTTPException) as error:  # no network, no right to write, a wrong checksum
        raise DataError(f"{problem}; downloading it failed: {error}") from error
    return _official(root)


def _folders(places: Sequence[Path], tests: Sequence[str]) -> tuple[Path, Path] | None:
    """The first training and test folder that there are."""
    pairs = [(place / "train", place / test) for place in places for test in tests]
    return next(((train, test) for train, test in pairs if train.is_dir() and test.is_dir()), None)


def _missing(name: str, places: Sequence[Path], wanted: str) -> DataError:
    looked = " or ".join(str(place) for place in places)
    return DataError(f"data set {name}: not found in {looked}; the data root must hold {wanted}")


def _common_classes(train: Path, test: Path) -> list[str]:
    classes, others = class_names(train), class_names(test)
    odd = sorted(set(classes) ^ set(others))
    if odd:
        names = ", ".join(odd[:3]) + (", ..." if len(odd) > 3 else "")
        raise DataError(f"{train} and {test} must have the same classes; {len(odd)} found in one alone: {names}")
    return classes


def _read(folders: tuple[Path, Path], classes: Sequence[str], side: int, *, resize: bool) -> Arrays:
    if len(classes) != _CLASSES:
        raise DataError(f"{folders[0]} must have {_CLASSES} folders, one a class, has {len(classes)}")
    train, test = (read_folder(folder, classes, side, resize=resize) for folder in folders)
    return Arrays(train, test, tuple(classes))


def _official(root: Path) -> Arrays:
    """The published files; torchvision compares their checksums before it unpickles them."""
    from torchvision.datasets import CIFAR10

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about pickles as old as these
            train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except RuntimeError:
        raise DataError(f"data set cifar10: {root / _OFFICIAL} is damaged; delete it to download it again") from None

    def pixels(split: CIFAR10) -> np.ndarray:
        return np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)).reshape(len(split), -1)

    return Arrays(
        (pixels(train), np.array(train.targets)), (pixels(test), np.array(test.targets)), tuple(train.classes)
    )


def _download(root: Path) -> None:
    """CIFAR-10 as published into ``root``, whole or not at all."""
    from torchvision.datasets import CIFAR10

    console = Console(file=sys.stderr)  # bound before stderr is silenced: torchvision draws a bar of its own
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            console.status(f"downloading CIFAR-10 (170 MB) to {root}"),
            tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch,
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            CIFAR10(scratch, download=True)
            Path(scratch, _OFFICIAL).rename(root / _OFFICIAL)
    finally:
        socket.setdefaulttimeout(timeout)


SOURCES = {
    "digits": Source("1,797 real images, 8x8, from scikit-learn", 1, _digits),
    "cifar10": Source("60,000 real images, 32x32x3, downloaded or from a folder", 3, _cifar10),
    "imagenet10": Source("real images of ten ImageNet classes, 224x224x3, from a folder", 3, _imagenet10),
    "synthetic-cifar10": Source("noise of cifar10's shape, for time and memory", 3, _synthetic(50_000, 10_000, 3072)),
    "synthetic-imagenet10": Source(
        "noise of imagenet10's shape, for time and memory", 3, _synthetic(1840, 460, 150528)
    ),
}
