"""Folders of images, <folder>/<class>/<image>: decoded once, then read from a .npy file in the cache folder."""

import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from suites.harness.data.problem import Arrays, DataError, MissingError

# The decoders of images are imported where they are used: readers of records import this module too.

_CLASSES = 10
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMAT = 1  # raise it when decoding changes: cached arrays of another format are not read
_CHUNK = 64  # images that a thread decodes at a time
_MOST_MEGAPIXELS = 64  # of an image that is to be resized: 192 MB when it is decoded


def cache_folder() -> Path:
    """``$KRONBENCH_CACHE``, else the user's cache folder, such as ``~/.cache/kronbench``. It need not exist."""
    from platformdirs import user_cache_path

    own = os.environ.get("KRONBENCH_CACHE")
    return Path(own) if own else user_cache_path("kronbench", appauthor=False)


def find_folders(places: Sequence[Path], tests: Sequence[str]) -> tuple[Path, Path] | None:
    """The first pair of a training and a test folder that exists."""
    pairs = [(place / "train", place / test) for place in places for test in tests]
    return next(((train, test) for train, test in pairs if train.is_dir() and test.is_dir()), None)


def missing(name: str, places: Sequence[Path], wanted: str) -> MissingError:
    """The error for missing data: where they were looked for, and what must be there."""
    looked = " or ".join(str(place) for place in places)
    return MissingError(f"problem {name}: no data in {looked}; the data root must hold {wanted}")


def class_names(train: Path, test: Path) -> list[str]:
    """The names of the class folders, sorted, without hidden ones.

    Raises:
        DataError: if the two folders have different classes.
    """
    classes, others = (
        {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
        for folder in (train, test)
    )
    odd = sorted(classes ^ others)
    if odd:
        names = ", ".join(odd[:3]) + (", ..." if len(odd) > 3 else "")
        raise DataError(f"{train} and {test} must have the same classes; {len(odd)} found in one alone: {names}")
    return sorted(classes)


def read_folders(folders: tuple[Path, Path], classes: Sequence[str], side: int, *, resize: bool) -> Arrays:
    """The images of ten classes from a training and a test folder, see :func:`read_folder`.

    Raises:
        DataError: if there are not ten classes, or as :func:`read_folder` does.
    """
    if len(classes) != _CLASSES:
        raise DataError(f"{folders[0]} must have {_CLASSES} folders, one a class, has {len(classes)}")
    train, test = (read_folder(folder, classes, side, resize=resize) for folder in folders)
    return Arrays(train, test, tuple(classes))


def read_folder(folder: Path, classes: Sequence[str], side: int, *, resize: bool) -> tuple[np.ndarray, np.ndarray]:
    """The images of some classes, by class and file name.

    Args:
        classes: subfolders; their order gives the labels.
        side: height and width in pixels.
        resize: squash images of another size, up to 64 megapixels, to the square (bilinear, antialiased; the aspect
            ratio is not kept) instead of refusing them.

    Returns:
        Pixels uint8 [N, 3 side^2], channel by channel (RGB), and labels int64 [N].

    Raises:
        DataError: if a class has no images, or if an image cannot be read or has the wrong size, which is checked
            before decoding.
    """
    names: list[str] = []
    stamps: list[tuple[int, int]] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        entries = sorted((e for e in os.scandir(folder / name) if _is_image(e)), key=lambda entry: entry.name)
        if not entries:
            raise DataError(f"no images in {folder / name}")
        names += [f"{name}/{entry.name}" for entry in entries]
        stamps += [(entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries]
        labels += [label] * len(entries)
    key = (_FORMAT, str(folder.resolve()), side, names, stamps)
    paths = [folder / name for name in names]
    pixels = cached(key, (len(names), 3 * side * side), lambda: _decode(paths, side, resize))
    return pixels, np.array(labels, dtype=np.int64)


def cached(key: object, shape: tuple[int, int], make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array of bytes from the cache folder. If it is missing or damaged, it is made and kept there.

    Args:
        key: its ``repr`` must hold all that decides the array.
    """
    path = cache_folder() / "images" / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"
    pixels = _load(path, shape)
    if pixels is None:
        pixels = make()
        _save(path, pixels)
    return pixels


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()


def _decode(paths: Sequence[Path], side: int, resize: bool) -> np.ndarray:
    import joblib
    from PIL import Image
    from rich.console import Console
    from rich.progress import track

    pixels = np.empty((len(paths), 3, side, side), dtype=np.uint8)

    def decode(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(paths))):
            pixels[i] = _image(paths[i], side, resize).transpose(2, 0, 1)

    starts = range(0, len(paths), _CHUNK)
    parallel = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator_unordered")
    hidden = not sys.stderr.isatty()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
        done = parallel(joblib.delayed(decode)(start) for start in starts)
        for _ in track(
            done, "decoding images", len(starts), console=Console(stderr=True), transient=True, disable=hidden
        ):
            pass
    return pixels.reshape(len(paths), -1)


def _image(path: Path, side: int, resize: bool) -> np.ndarray:
    """Pixels uint8 [side, side, 3] of one file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:  # reads the header alone
            _check_size(path, file.size, side, resize)
            image = file.convert("RGB")
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"image {path} cannot be read: no known format") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} cannot be read: {error}") from error
    return np.asarray(image if image.size == (side, side) else image.resize((side, side), Image.Resampling.BILINEAR))


def _check_size(path: Path, size: tuple[int, int], side: int, resize: bool) -> None:
    width, height = size
    if not resize and size != (side, side):
        raise DataError(f"image {path} must have {side} x {side} pixels, has {width} x {height}")
    if width * height > _MOST_MEGAPIXELS * 10**6:
        raise DataError(f"image {path} has {width} x {height} pixels, at most {_MOST_MEGAPIXELS} megapixels are read")


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The cached array; None if there is none or it is damaged."""
    try:
        pixels = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _save(path: Path, pixels: np.ndarray) -> None:
    """Write the whole array or nothing. If the cache cannot be written, the array is made again next time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
            np.save(Path(scratch, path.name), pixels)
            os.replace(Path(scratch, path.name), path)
