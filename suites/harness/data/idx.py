"""Images in the format of MNIST: four idx files, gzipped or not. torchvision downloads missing ones."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suites.harness.data.download import download_into
from suites.harness.data.images import missing
from suites.harness.data.problem import Arrays, DataError

_TRAIN, _TEST = (tuple(f"{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")) for part in ("train", "t10k"))


@dataclass(frozen=True)
class IdxFiles:
    """A data set of four files. All such data sets use the same file names.

    name: of the folder below the data root that holds the files. They may also lie in the data root itself.
    source: the class of ``torchvision.datasets`` that downloads them. size: of the download.
    first_labels: the first ones of the training set, which tell it from other data sets.
    """

    name: str
    source: str
    size: str
    classes: tuple[str, ...]
    first_labels: tuple[int, ...]

    def read(self, root: Path, seed: int, download: bool) -> Arrays:
        """Images and labels.

        Raises:
            DataError: one line, if they are damaged; MissingError, if they are not there and may not or cannot be
                downloaded.
        """
        places = (root / self.name, root, root / self.source / "raw")
        folder = next(filter(self._is_in, places), None)
        if folder is None:
            begin = " ".join(map(str, self.first_labels))
            absent = missing(
                self.name,
                places,
                f"the four files of {self.source}, such as {_TRAIN[0]}.gz; its first labels are {begin}",
            )
            if not download:
                raise absent
            download_into(root, self.source, self.source, self.size, absent)
            folder = places[-1]
        parts = ([read_idx(_found(folder, file)) for file in part] for part in (_TRAIN, _TEST))
        train, test = ((images.reshape(len(images), -1), labels) for images, labels in parts)
        return Arrays(train, test, self.classes)

    def read_images(self, root: Path, seed: int, download: bool) -> Arrays:
        """Images alone, for an autoencoder."""
        (train, _), (test, _), _ = self.read(root, seed, download)
        return Arrays((train, None), (test, None))

    def _is_in(self, folder: Path) -> bool:
        """Whether the four files are there, and are those of this data set."""
        if not all(_found(folder, file).is_file() for file in (*_TRAIN, *_TEST)):
            return False
        return tuple(read_idx(_found(folder, _TRAIN[1]))[: len(self.first_labels)].tolist()) == self.first_labels


def read_idx(path: Path) -> np.ndarray:
    """The bytes of an idx file, in its shape. The file holds two zeros, 8 for bytes, the number of sizes, the sizes,
    and the bytes.

    Raises:
        DataError: one line, if it is not such a file.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        zeros, kind, count = struct.unpack_from(">HBB", data)
        sizes = struct.unpack_from(f">{count}I", data, 4)
        begin = 4 + 4 * count
        if (zeros, kind) != (0, 8) or not sizes or len(data) != begin + math.prod(sizes):
            raise ValueError(f"{len(data)} bytes are no idx file of bytes in the shape {list(sizes)}")
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; get it anew") from error
    return np.frombuffer(data, np.uint8, offset=begin).reshape(sizes).copy()  # torch wants a writable array


def _found(folder: Path, file: str) -> Path:
    """The file, or its gzipped form, which need not exist."""
    plain = folder / file
    return plain if plain.is_file() else folder / f"{file}.gz"
