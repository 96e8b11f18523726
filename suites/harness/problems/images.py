"""Folders of images, <folder>/<class>/<image>: decoded once, then read from a .npy file in the cache folder."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMAT = 1  # raise it when decoding changes: cached arrays of another format are not read
_CHUNK = 64  # images that a thread decodes at a time


class DataError(ValueError):
    """What is wrong with the data and what to do, in one line."""


def cache_folder() -> Path:
    """``$KRONBENCH_CACHE``, else ``$XDG_CACHE_HOME/kronbench``, else ``~/.cache/kronbench``; it need not exist."""
    own, shared = os.environ.get("KRONBENCH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path.home() / ".cache") / "kronbench"


def class_names(folder: Path) -> list[str]:
    """The subfolders, sorted; hidden ones are left out."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_folder(folder: Path, classes: Sequence[str], side: int, *, resize: bool) -> tuple[np.ndarray, np.ndarray]:
    """The images of some classes, by class and file name.

    Args:
        classes: subfolders; their order gives the labels.
        side: height and width in pixels.
        resize: squash images of another size to the square (bilinear, antialiased; the aspect ratio is not kept)
            instead of refusing them.

    Returns:
        Pixels uint8 [N, 3 side^2], channel by channel (RGB), and labels int64 [N].

    Raises:
        DataError: if a class has no images, or an image cannot be read or has the wrong size.
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
    key = hashlib.sha256(repr((_FORMAT, str(folder.resolve()), side, names, stamps)).encode()).hexdigest()
    cached = cache_folder() / "images" / f"{key[:32]}.npy"
    pixels = _load(cached, (len(names), 3 * side * side))
    if pixels is None:
        pixels = _decode([folder / name for name in names], side, resize)
        _save(cached, pixels)
    return pixels, np.array(labels, dtype=np.int64)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()


def _decode(paths: Sequence[Path], side: int, resize: bool) -> np.ndarray:
    pixels = np.empty((len(paths), 3, side, side), dtype=np.uint8)

    def decode(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(paths))):
            pixels[i] = _image(paths[i], side, resize).transpose(2, 0, 1)

    starts = range(0, len(paths), _CHUNK)
    parallel = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator_unordered")
    done = parallel(joblib.delayed(decode)(start) for start in starts)
    hidden = not sys.stderr.isatty()
    for _ in track(done, "decoding images", len(starts), console=Console(stderr=True), transient=True, disable=hidden):
        pass
    return pixels.reshape(len(paths), -1)


def _image(path: Path, side: int, resize: bool) -> np.ndarray:
    """Pixels uint8 [side, side, 3] of one file."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except UnidentifiedImageError:
        raise DataError(f"image {path} cannot be read: no known format") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} cannot be read: {error}") from error
    if image.size != (side, side):
        if not resize:
            raise DataError(f"image {path} must have {side} x {side} pixels, has {image.width} x {image.height}")
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The cached array; None if there is none or it is damaged."""
    try:
        pixels = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _save(path: Path, pixels: np.ndarray) -> None:
    """Whole or not at all; a cache that cannot be written is no error, the images are decoded again next time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
            np.save(Path(scratch, path.name), pixels)
            os.replace(Path(scratch, path.name), path)
