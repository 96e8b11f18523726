"""Everything that decides the numbers of a run, and what several runs share: a problem, loaded."""

import itertools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from optimizers.core import ACTIVATIONS, CRITERIA, FCNN, Criterion
from suites.harness.measure.step import Step
from suites.harness.names import pick
from suites.harness.problems.dataset import DATASETS, Dataset, load
from suites.harness.records.conventions import TARGETS  # noqa: F401 - benchmarks/ look here, in old commits too
from suites.harness.training.captured_step import CapturedStep
from suites.harness.training.catalog import Choice

_HIDDEN = (1024, 512, 256, 128, 64, 32, 16, 10)
# the paper's networks, and one for digits with the same taper
NETWORKS: dict[str, tuple[int, ...]] = {
    "digits": (64, 64, 32, 16, 10),
    "cifar10": (3072, *_HIDDEN),
    "imagenet10": (150528, *_HIDDEN),
    "synthetic-cifar10": (3072, *_HIDDEN),
    "synthetic-imagenet10": (150528, *_HIDDEN),
}
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Settings:
    """What the runs of a comparison share. ``network`` and ``device`` may be left open: see :meth:`Task.load`.

    ``validation``: the share of the training images that is held out, and evaluated in place of the test set.
    ``cuda_graph``: take steps as replays of a CUDA graph, see
    :class:`suites.harness.training.captured_step.CapturedStep`.
    """

    dataset: str = "digits"
    criterion: str = "cross-entropy"
    network: tuple[int, ...] = ()
    activation: str = "sigmoid"
    batch_size: int = 100
    dtype: str = "float32"
    device: str = "auto"
    cuda_graph: bool = False
    validation: float = 0.0


@dataclass(frozen=True, eq=False)
class Task:
    """Settings with their data loaded: gives any number of runs their network, optimizer and batches."""

    settings: Settings
    dataset: Dataset
    criterion: Criterion

    @classmethod
    def load(cls, settings: Settings, data_root: Path | None = None, download: bool = True) -> "Task":
        """Check the settings, fill in what they leave open, and load the data onto the device.

        Raises:
            ValueError: one line that says what is wrong, what was expected, what to do.
        """
        pick("data set", settings.dataset, DATASETS)
        pick("activation", settings.activation, ACTIVATIONS)
        criterion = pick("criterion", settings.criterion, CRITERIA)
        dtype = pick("dtype", settings.dtype, DTYPES)
        device = resolve_device(settings.device)
        if settings.cuda_graph and device != "cuda":
            raise ValueError("cuda graph: there is no capture on a CPU; use --device cuda, or leave it out")
        dataset = load(settings.dataset, data_root=data_root, device=device, dtype=dtype, download=download)
        if settings.validation:
            dataset = dataset.with_validation(settings.validation)
        network = settings.network or NETWORKS[settings.dataset]
        if len(network) < 2 or min(network) < 1:
            raise ValueError(f"network must be two or more sizes of at least 1, got {list(network)}")
        if network[0] != dataset.features or network[-1] < len(dataset.classes):
            raise ValueError(
                f"network must begin with {dataset.features}, the inputs of {dataset.name}, and end with at least its "
                f"{len(dataset.classes)} classes, got {list(network)}"
            )
        if not 1 <= settings.batch_size <= len(dataset.train):
            raise ValueError(
                f"batch size must be from 1 to the {len(dataset.train)} training images of {dataset.name}, "
                f"got {settings.batch_size}"
            )
        return cls(replace(settings, network=network, device=device), dataset, criterion)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.dataset.train) // self.settings.batch_size

    def network(self, seed: int) -> FCNN:
        """A network with the initial weights of a seed."""
        settings = self.settings
        return FCNN(
            settings.network,
            settings.activation,
            seed=seed,
            device=settings.device,
            dtype=DTYPES[settings.dtype],
        )

    def step(self, choice: Choice, seed: int, first_epoch: int = 1) -> Step:
        """A fresh training step: batches follow without end, epoch after epoch."""
        network = self.network(seed)
        batches = itertools.chain.from_iterable(
            self.dataset.batches(self.settings.batch_size, epoch, seed) for epoch in itertools.count(first_epoch)
        )
        return Step(network, choice.build(network, self.criterion), self.criterion, batches)

    def training_step(self, choice: Choice, seed: int, first_epoch: int = 1) -> Step:
        """A fresh step that is captured in a CUDA graph where the settings say so."""
        step = self.step(choice, seed, first_epoch)
        return CapturedStep(step) if self.settings.cuda_graph else step

    def check(self, choice: Choice) -> None:
        """Refuse an optimizer that cannot be built for this task, before anything is written."""
        choice.build(FCNN((1, 1), self.settings.activation), self.criterion)

    def describe(self, choice: Choice, seed: int, epochs: int) -> dict[str, Any]:
        """The experiment as it stands in the header of a record."""
        return {
            "optimizer": choice.spec,
            "options": {**choice.entry.options, **choice.options},
            "seed": seed,
            "epochs": epochs,
            **asdict(self.settings),
            "train_images": len(self.dataset.train),
            "test_images": len(self.dataset.test),
            "synthetic": self.dataset.synthetic,
        }


def resolve_device(name: str) -> str:
    """``auto`` is the GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: torch finds no CUDA GPU here; use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
