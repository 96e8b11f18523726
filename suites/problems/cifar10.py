"""CIFAR-10 with the paper's network: from image folders, from the published files, or downloaded."""

import warnings
from pathlib import Path

import numpy as np

from suites.harness.data.download import download_into
from suites.harness.data.images import class_names, find_folders, missing, read_folders
from suites.harness.data.problem import Arrays, DataError, Problem

_OFFICIAL = "cifar-10-batches-py"  # the folder that the published archive unpacks to


def read(root: Path, seed: int, download: bool) -> Arrays:
    """In ``root`` or ``root/cifar10``: ``{train,test}/<class>/`` with images, or the published files.

    Raises:
        DataError: if neither is there and the archive (170 MB) may not or cannot be downloaded into ``root``.
    """
    places = (root / "cifar10", root)
    folders = find_folders(places, ("test", "val"))
    if folders is not None:
        return read_folders(folders, class_names(*folders), 32, resize=False)
    for place in places:
        if (place / _OFFICIAL).is_dir():
            return _official(place)
    absent = missing("cifar10", places, f"cifar10/{{train,test}}/<class>/ or {_OFFICIAL}/, as published")
    if not download:
        raise absent
    download_into(root, "CIFAR10", _OFFICIAL, "170 MB", absent)
    return _official(root)


def _official(root: Path) -> Arrays:
    """The published files; torchvision compares their checksums before it unpickles them."""
    from torchvision.datasets import CIFAR10

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about pickles as old as these
            train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except RuntimeError:
        raise DataError(f"problem cifar10: {root / _OFFICIAL} is damaged; delete it to download it again") from None

    def pixels(split: CIFAR10) -> np.ndarray:
        return np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)).reshape(len(split), -1)

    return Arrays(
        (pixels(train), np.array(train.targets)), (pixels(test), np.array(test.targets)), tuple(train.classes)
    )


problem = Problem(
    summary="60,000 real images, 32x32x3, downloaded or from a folder",
    network=(3072, 1024, 512, 256, 128, 64, 32, 16, 10),
    read=read,
    targets=(0.30, 0.40, 0.45),
    channels=3,
)
