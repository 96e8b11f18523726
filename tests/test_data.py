"""The data of problems: read, split and normalized right, in an order that a seed fixes; errors are one line."""

import os
import pickle
import socket
import struct
import sys
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from suites.harness.data import Arrays, Problem, dataset, images
from suites.harness.data.problem import DataError, find

CLASSES = [f"class{i}" for i in range(10)]
REAL = os.environ.get("KRONBENCH_DATA")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and no network."""

    def fail(self):
        raise URLError("no network in tests")

    monkeypatch.setenv("KRONBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    return tmp_path / "cache"


def load(name, **settings):
    return dataset.load(find(name), **settings)


def load_arrays(train, test, classes=("a", "b"), dtype=torch.float32, **fields):
    """The data set of a problem with these arrays."""
    problem = Problem("a test's", (4, 2), lambda *given: Arrays(train, test, classes), name="mine", **fields)
    return dataset.load(problem, dtype=dtype)


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


def write_folders(root, classes=CLASSES, splits=("train", "test"), side=32, count=2):
    """Noise whose first pixel is (class, image, 0 in the first split and 1 in the second)."""
    generator = np.random.default_rng(0)
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            for i in range(count):
                pixels = generator.integers(256, size=(side, side, 3))
                pixels[0, 0] = (c, i, s)
                write_image(root / split / name / f"{i}.png", pixels)
    return root


def write_official(root, monkeypatch, label=None):
    """The layout of the published files, with two images a file; their checksums are taken for right."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for n, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.full((2, 3072), n, dtype=np.uint8)
        data[:, [0, 1, 1024]] = [[10, 11, 12], [20, 21, 22]]
        labels = [n, 9] if label is None else [n, label]
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))
    return root


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the images decoded since."""
    paths = []
    decode = images._image
    monkeypatch.setattr(images, "_image", lambda path, *rest: paths.append(path) or decode(path, *rest))
    return paths


def first_pixels(split, features):
    """RGB of the first pixel of every image."""
    return split.images[:, [0, features // 3, 2 * features // 3]].tolist()


def test_digits_are_split_by_class():
    data = load("digits")
    assert data.train.images.shape == (1437, 64)
    assert data.test.images.shape == (360, 64)
    assert (data.features, data.classes) == (64, tuple("0123456789"))
    assert data.train.images.dtype == torch.uint8
    assert data.train.targets.dtype == torch.int64
    assert data.train.images.max() == 16
    train, test = (torch.bincount(split.targets).double() / len(split) for split in (data.train, data.test))
    assert (train - test).abs().max() < 0.003
    again = load("digits", seed=1)
    assert torch.equal(data.train.images, again.train.images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_inputs_have_mean_0_and_deviation_1(dtype):
    data = load("digits", dtype=dtype)
    inputs = data.inputs(data.train.images)
    assert inputs.dtype == data.scale.dtype == dtype
    assert inputs.mean().abs() < 1e-6
    assert (inputs.std(correction=0) - 1).abs() < 1e-6


def test_channels_are_normalized_one_by_one(tmp_path):
    data = load("cifar10", data_root=write_folders(tmp_path), dtype=torch.float64)
    planes = data.train.images.double().div(255).view(20, 3, 1024)
    mean, std = planes.mean((0, 2)), planes.std((0, 2), correction=0)
    expected = (data.test.images.double().div(255).view(20, 3, 1024) - mean[:, None]) / std[:, None]
    torch.testing.assert_close(data.inputs(data.test.images), expected.flatten(1), rtol=1e-12, atol=1e-12)


def test_a_constant_channel_is_only_centred(tmp_path):
    for split in ("train", "test"):
        for name in CLASSES:
            write_image(tmp_path / split / name / "0.png", np.full((32, 32, 3), 7))
    data = load("cifar10", data_root=tmp_path)
    assert data.inputs(data.train.images).abs().max() < 1e-7


def test_an_epoch_takes_every_image_at_most_once():
    data = load("digits")
    batches = list(data.batches(100, epoch=1, seed=0))
    assert len(batches) == 1437 // 100
    assert all(x.shape == (100, 64) and y.shape == (100,) for x, y in batches)
    everything = {tuple(row) for row in data.inputs(data.train.images).tolist()}
    seen = [tuple(row) for x, _ in batches for row in x.tolist()]
    assert len(set(seen)) == len(seen)  # no two digits are alike
    assert set(seen) <= everything


def test_labels_stay_with_their_images():
    data = load("digits")
    label = dict(zip(map(tuple, data.inputs(data.train.images).tolist()), data.train.targets.tolist(), strict=True))
    x, y = next(data.batches(200, epoch=3, seed=1))
    assert [label[tuple(row)] for row in x.tolist()] == y.tolist()


def test_seed_and_epoch_fix_the_order():
    data = load("digits")

    def order(epoch, seed):
        return torch.cat([x for x, _ in data.batches(100, epoch, seed)])

    assert torch.equal(order(1, 0), order(1, 0))
    assert not torch.equal(order(1, 0), order(2, 0))
    assert not torch.equal(order(1, 0), order(1, 1))
    assert not torch.equal(order(1, 0), order(0, 1))


def test_the_order_does_not_depend_on_torch_s_global_state():
    data = load("digits")
    torch.manual_seed(1)
    first = next(data.batches(10, 1, 0))
    torch.manual_seed(2)
    assert torch.equal(first[0], next(data.batches(10, 1, 0))[0])


@pytest.mark.parametrize("size", [0, -1, 1438])
def test_batch_size_out_of_range(size):
    with pytest.raises(DataError, match=f"batch size must be from 1 to 1437.*got {size}"):
        load("digits").batches(size, 1, 0)


def test_chunks_are_the_whole_split_in_order():
    data = load("digits")
    chunks = list(data.chunks(data.test, 100))
    assert [len(y) for _, y in chunks] == [100, 100, 100, 60]
    assert torch.equal(torch.cat([x for x, _ in chunks]), data.inputs(data.test.images))
    assert torch.equal(torch.cat([y for _, y in chunks]), data.test.targets)


@pytest.mark.parametrize("place", ["", "cifar10"])
@pytest.mark.parametrize("test", ["test", "val"])
def test_cifar10_from_image_folders(tmp_path, place, test):
    write_folders(tmp_path / place, splits=("train", test))
    data = load("cifar10", data_root=tmp_path)
    assert data.classes == tuple(CLASSES)
    assert data.train.targets.tolist() == [c for c in range(10) for _ in range(2)]
    assert first_pixels(data.train, 3072) == [[c, i, 0] for c in range(10) for i in range(2)]
    assert first_pixels(data.test, 3072) == [[c, i, 1] for c in range(10) for i in range(2)]
    pixels = np.asarray(Image.open(tmp_path / place / "train" / "class3" / "1.png"))
    assert np.array_equal(data.train.images[7].view(3, 32, 32).numpy(), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("place", ["", "cifar10"])
def test_cifar10_as_published(tmp_path, monkeypatch, place):
    write_official(tmp_path / place, monkeypatch)
    data = load("cifar10", data_root=tmp_path)
    assert (len(data.train), len(data.test), data.features) == (10, 2, 3072)
    assert data.train.targets.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert data.train.images[1, [0, 1, 1024, 2048]].tolist() == [20, 21, 22, 0]
    assert data.classes == tuple(CLASSES)


def test_cifar10_of_the_cache_folder_needs_no_data_root(cache, monkeypatch):
    write_official(cache, monkeypatch)
    assert len(load("cifar10").train) == 10


def test_damaged_published_files(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="cifar-10-batches-py is damaged; delete it"):
        load("cifar10", data_root=tmp_path)


def test_labels_out_of_range(tmp_path, monkeypatch):
    write_official(tmp_path, monkeypatch, label=10)
    with pytest.raises(DataError, match="labels must be whole numbers from 0 to 9, got 0 to 10"):
        load("cifar10", data_root=tmp_path)


TRAIN, TEST = (np.array([[1.0, 5, 0, 9], [3, 5, 0, 1], [8, 5, 0, 4]]), [0, 1, 1]), (np.ones((1, 4)), [0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_are_normalized_input_by_input(dtype):
    """With the training set's mean and deviation; a constant input is only centred, a mean far from 0 costs nothing."""
    offset = np.array([1e7, 0, 0, 0])
    data = load_arrays((TRAIN[0] + offset, TRAIN[1]), (TEST[0] + offset, TEST[1]), dtype=dtype)
    raw = torch.tensor(TRAIN[0])
    mean, std = raw.mean(0), raw.std(0, correction=0)
    std[1:3] = 1
    (train, labels), (test, _) = (next(data.chunks(split)) for split in (data.train, data.test))
    assert train.dtype == test.dtype == dtype
    assert labels.tolist() == TRAIN[1]
    for found, values in ((train, raw), (test, torch.ones(1, 4))):
        torch.testing.assert_close(found.double(), (values - mean) / std, rtol=0, atol=1e-6)


def test_floats_are_normalized_channel_by_channel():
    data = load_arrays(TRAIN, TEST, channels=2, dtype=torch.float64)
    planes = data.train.images.view(3, 2, 2)
    torch.testing.assert_close(planes.mean((0, 2)), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(planes.std((0, 2), correction=0), torch.ones(2, dtype=torch.float64))


def test_batches_do_not_change_the_data():
    """What a step does to its inputs stays with it."""
    for data in (load_arrays(TRAIN, TEST), load("digits")):
        before = data.train.images.clone()
        for inputs, _ in data.batches(2, epoch=1, seed=0):
            inputs.zero_()
        assert torch.equal(data.train.images, before)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ((np.ones(3), [0, 1, 1]), TEST, r"training set: inputs must be \[N, D\] and labels \[N\], got \[3\] and \[3\]"),
        ((np.ones((3, 4)), [0, 1]), TEST, r"got \[3, 4\] and \[2\]"),
        (TRAIN, (np.ones((0, 4)), []), r"test set: inputs must be .* got \[0, 4\]"),
        (TRAIN, (np.ones((1, 3)), [0]), r"float64 \[3, 4\], must be like those of the test set, float64 \[1, 3\]"),
        (TRAIN, (np.ones((1, 4), np.uint8), [0]), "must be like"),
        ((np.array([[1.0, 1], [1, np.nan]]), [0, 1]), TEST, "inputs must be finite, row 1 is not"),
        ((np.array([[np.inf, 1.0]]), [0]), TEST, "inputs must be finite, row 0 is not"),
        ((np.array([["a"]]), [0]), TEST, "must be numbers, got <U1"),
        ((np.ones((1, 4)), [0.5]), TEST, "labels must be whole numbers from 0 to 1"),
        ((np.ones((1, 4)), [-1]), TEST, "labels must be whole numbers from 0 to 1, got -1 to -1"),
        ((np.ones((1, 4)), [2]), TEST, "labels must be whole numbers from 0 to 1, got 2 to 2"),
        ((np.ones((1, 4)), [np.nan]), TEST, "labels must be finite, row 0 is not"),
    ],
)
def test_arrays_that_are_no_data(train, test, message):
    with pytest.raises(DataError, match=f"problem mine.*{message}") as caught:
        load_arrays(train, test)
    assert "\n" not in str(caught.value)


def test_channels_must_divide_the_inputs():
    with pytest.raises(DataError, match="4 inputs cannot be divided into 3 channels"):
        load_arrays(TRAIN, TEST, channels=3)


def test_a_failed_download_leaves_nothing(tmp_path, monkeypatch, capfd):
    def fail(self):
        Path(self.root, "cifar-10-python.tar.gz").write_bytes(b"half")
        print("0%")
        print("0%", file=sys.stderr)
        raise URLError("timed out")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    before = socket.getdefaulttimeout()
    with pytest.raises(DataError, match=r"downloading it failed: .*timed out") as caught:
        load("cifar10", data_root=tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "new").iterdir()) == []
    assert socket.getdefaulttimeout() == before
    assert capfd.readouterr() == ("", "")


def test_a_download_is_kept(tmp_path, monkeypatch):
    downloads = []
    monkeypatch.setattr(
        torchvision.datasets.CIFAR10,
        "download",
        lambda self: downloads.append(self.root) or write_official(Path(self.root), monkeypatch),
    )
    assert len(load("cifar10", data_root=tmp_path).train) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-py"]
    load("cifar10", data_root=tmp_path)
    assert len(downloads) == 1


@pytest.mark.parametrize("place", ["", "imagenet10", "imagenet"])
def test_imagenet10_is_squashed_to_224(tmp_path, place):
    root = write_folders(tmp_path / place, splits=("train", "val"), side=8, count=1)
    for split in ("train", "val"):
        write_image(root / split / "class9" / "0.png", np.full((20, 300, 3), (1, 2, 3)))
    data = load("imagenet10", data_root=tmp_path)
    assert (len(data.train), len(data.test), data.features) == (10, 10, 150528)
    assert data.train.images[9].view(3, -1).unique(dim=1).tolist() == [[1], [2], [3]]


def test_ten_classes_of_more_are_drawn_by_the_seed(tmp_path):
    (tmp_path / "test").mkdir()  # as in ImageNet: images without labels
    names = [f"n{i:02}" for i in range(14)]
    write_folders(tmp_path, names, splits=("train", "val"), side=4, count=1)
    drawn = [load("imagenet10", data_root=tmp_path, seed=seed) for seed in (0, 0, 1)]
    assert all(len(data.classes) == 10 and list(data.classes) == sorted(data.classes) for data in drawn)
    assert drawn[0].classes == drawn[1].classes != drawn[2].classes
    assert torch.equal(drawn[2].train.targets, torch.arange(10))
    assert [names[red] for red, *_ in first_pixels(drawn[2].train, 150528)] == list(drawn[2].classes)


def test_images_are_decoded_once(tmp_path, decoded):
    write_folders(tmp_path)
    first = load("cifar10", data_root=tmp_path)
    assert len(decoded) == 40
    decoded.clear()
    again = load("cifar10", data_root=tmp_path)
    assert decoded == []
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.images, again.test.images)


@pytest.mark.parametrize("change", ["rewritten", "added", "removed"])
def test_a_changed_folder_is_decoded_again(tmp_path, decoded, change):
    folder = write_folders(tmp_path) / "train" / "class0"
    load("cifar10", data_root=tmp_path)
    decoded.clear()
    if change == "removed":
        (folder / "1.png").unlink()
    else:
        write_image(folder / ("0.png" if change == "rewritten" else "2.png"), np.full((32, 32, 3), 9))
    data = load("cifar10", data_root=tmp_path)
    assert len(decoded) == len(data.train) == {"rewritten": 20, "added": 21, "removed": 19}[change]
    assert data.train.targets[:3].tolist() == [0, 0 if change != "removed" else 1, 0 if change == "added" else 1]
    if change == "rewritten":
        assert data.train.images[0].unique().tolist() == [9]


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_a_damaged_cache_is_rebuilt(tmp_path, cache, decoded, length):
    write_folders(tmp_path / "images")
    first = load("cifar10", data_root=tmp_path / "images")
    decoded.clear()
    for file in (cache / "images").iterdir():
        os.truncate(file, length)
    again = load("cifar10", data_root=tmp_path / "images")
    assert len(decoded) == 40
    assert torch.equal(first.train.images, again.train.images)
    load("cifar10", data_root=tmp_path / "images")
    assert len(decoded) == 40
    assert sorted(path.suffix for path in (cache / "images").iterdir()) == [".npy", ".npy"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, cache):
    cache.write_text("a file where the folder would be")
    assert len(load("cifar10", data_root=write_folders(tmp_path)).train) == 20


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("KRONBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert images.cache_folder() == tmp_path / "kronbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert images.cache_folder() == tmp_path / ".cache" / "kronbench"


def test_other_files_are_left_out(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "train" / "class0" / "notes.txt").touch()
    (tmp_path / "train" / "class0" / "._0.png").touch()
    (tmp_path / "train" / ".hidden").mkdir()
    assert len(load("cifar10", data_root=tmp_path).train) == 20


def test_integer_dtype():
    with pytest.raises(DataError, match="must be floating"):
        load("digits", dtype=torch.int64)


@pytest.mark.parametrize("name", ["cifar10", "imagenet10"])
def test_missing_data_says_where_and_what(tmp_path, name):
    with pytest.raises(
        DataError, match=rf"no data in {tmp_path / name} or .*the data root must hold {name}/"
    ) as caught:
        load(name, data_root=tmp_path, download=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_broken_image_is_named(tmp_path, cache, damage):
    file = write_folders(tmp_path) / "test" / "class4" / "1.png"
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no image", "empty": b""}[damage])
    with pytest.raises(DataError, match=f"image {file} cannot be read: ") as caught:
        load("cifar10", data_root=tmp_path)
    assert "\n" not in str(caught.value)
    assert len(list((cache / "images").iterdir())) == 1  # the training set's alone


def test_cifar10_is_not_resized(tmp_path):
    write_folders(tmp_path)
    write_image(tmp_path / "train" / "class0" / "0.png", np.zeros((32, 40, 3)))
    with pytest.raises(DataError, match=r"0\.png must have 32 x 32 pixels, has 40 x 32"):
        load("cifar10", data_root=tmp_path)


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("cifar10", 13_000, "must have 32 x 32 pixels, has 13000 x 13000"),
        ("imagenet10", 13_000, "has 13000 x 13000 pixels, at most 64 megapixels are read"),
        ("imagenet10", 100_000, "cannot be read: .*decompression bomb"),
    ],
)
def test_a_huge_image_is_refused_by_its_header(tmp_path, name, side, message, recwarn):
    """A file of 70 bytes that promises pixels which are not there: whoever decodes it says that it is truncated."""
    write_folders(tmp_path)
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    (tmp_path / "train" / "class0" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(DataError, match=message) as caught:
        load(name, data_root=tmp_path)
    assert "\n" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["cifar10", "imagenet10"])
def test_unequal_classes(tmp_path, name):
    write_folders(tmp_path, splits=("train",), count=1)
    write_folders(tmp_path, [*CLASSES[:9], "other"], splits=("test",), count=1)
    with pytest.raises(DataError, match="same classes; 2 found in one alone: class9, other"):
        load(name, data_root=tmp_path)


@pytest.mark.parametrize(("name", "count"), [("cifar10", 9), ("cifar10", 11), ("imagenet10", 9)])
def test_not_ten_classes(tmp_path, name, count):
    write_folders(tmp_path, [f"n{i}" for i in range(count)], count=1)
    with pytest.raises(DataError, match=f"must have 10 folders, one a class, has {count}"):
        load(name, data_root=tmp_path)


def test_a_class_without_images(tmp_path):
    for file in (write_folders(tmp_path) / "train" / "class5").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"no images in .*class5"):
        load("cifar10", data_root=tmp_path)


@pytest.mark.parametrize(
    ("name", "train", "test", "features"),
    [("synthetic-cifar10", 50_000, 10_000, 3072), ("synthetic-imagenet10", 1_840, 460, 150_528)],
)
def test_synthetic(name, train, test, features):
    data = load(name)
    assert find(name).synthetic
    assert data.train.images.shape == (train, features)
    assert data.test.images.shape == (test, features)
    assert data.features == features
    assert data.train.targets.unique().tolist() == data.test.targets.unique().tolist() == list(range(10))


def test_synthetic_images_depend_on_the_seed_alone():
    first, again, other = (load("synthetic-cifar10", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.targets, again.test.targets)
    assert not torch.equal(first.train.images, other.train.images)


@pytest.mark.skipif(REAL is None, reason="KRONBENCH_DATA names no folder with real images")
@pytest.mark.parametrize(
    ("name", "features", "mean"), [("cifar10", 3072, (0.4914, 0.4822, 0.4465)), ("imagenet10", 150528, None)]
)
def test_real_images(cache, name, features, mean):
    cache.touch()  # no folder: hundreds of megabytes less to write
    data = load(name, data_root=Path(str(REAL)), download=False)
    assert data.features == features
    assert data.train.targets.bincount().unique().numel() == 1  # balanced
    inputs = data.inputs(data.train.images[::7]).view(-1, 3, features // 3)
    assert inputs.mean((0, 2)).abs().max() < 0.1
    if mean is not None:
        measured = -data.shift[:: features // 3] / data.scale[:: features // 3] / 255
        torch.testing.assert_close(measured, torch.tensor(mean), rtol=0, atol=0.01)
