"""Images in the format of MNIST (idx): four files, gzipped or not; torchvision downloads missing ones."""

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from suites.harness.problems.images import missing
from suites.harness.problems.problem import Arrays, DataError

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_mnist_like(name: str, source: str, classes: Sequence[str], root: Path, download: bool) -> Arrays:
    """The images and labels of a data set that is published as MNIST is.

    Args:
        name: of the problem. The four files lie in ``root``, ``root/name`` or ``root/source/raw``.
        source: the class of ``torchvision.datasets`` that downloads them into ``root`` and checks their hashes.

    Raises:
        DataError: one line, if they are not there and may not or cannot be downloaded, or are damaged.
    """
    places = (root / name, root, root / source / "raw")
    folder = next((place for place in places if all(_found(place, file) for file in _FILES)), None)
    if folder is None:
        not_found = missing(name, places, f"the four files of {source}, such as {_FILES[0]}.gz")
        if not download:
            raise not_found
        try:
            _download(source, root)
        except Exception as error:  # no network, no right to write, a wrong hash
            raise DataError(f"{not_found}; downloading them failed: {error}") from error
        folder = places[-1]
    images, labels, test_images, test_labels = (read_idx(_found(folder, file)) for file in _FILES)
    parts = [(pixels.reshape(len(pixels), -1), of) for pixels, of in ((images, labels), (test_images, test_labels))]
    return Arrays(*parts, tuple(classes))


def read_idx(path: Path | None) -> np.ndarray:
    """An array of bytes: two zero bytes, 8 for bytes, the number of sizes, the sizes, the numbers.

    Raises:
        DataError: one line, if that is not what the file holds.
    """
    assert path is not None, "the file was found"
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}; delete it to download it again") from error
    sizes = [int(size) for size in np.frombuffer(data[4 : 4 + 4 * data[3]], ">i4")] if len(data) > 3 else []
    if data[:3] != b"\0\0\x08" or not sizes or len(data) != 4 + 4 * len(sizes) + math.prod(sizes):
        raise DataError(f"{path} is damaged: it is no idx file of {sizes or 'bytes'}; delete it to download it again")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def _found(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _download(source: str, root: Path) -> None:
    from torchvision import datasets

    dataset: Any = getattr(datasets, source)
    root.mkdir(parents=True, exist_ok=True)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        dataset(root, download=True)
