"""Experiments: all that decides the numbers of a run, and the task that several runs share."""

import itertools
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from optimizers.core import ACTIVATIONS, CRITERIA, FCNN, Criterion
from optimizers.core.criteria import from_function
from optimizers.core.network import INITIALIZATIONS
from suites.harness.data.dataset import Dataset, load
from suites.harness.data.problem import Problem, find
from suites.harness.measure.step import CapturedStep, Step
from suites.harness.names import pick, said
from suites.harness.records.facts import GOALS, Experiment
from suites.harness.training.catalog import Choice
from suites.harness.training.schedule import CONSTANT, SCHEDULES, Schedule

BATCH_SIZE = 100  # unless a problem has its own
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Settings:
    """The settings of all runs of a comparison. :meth:`Task.load` fills in those that are left open.

    problem: a name or a file, see :func:`suites.harness.data.problem.find`.
    criterion, network, activation, initialization, batch_size: by default the problem's own; a batch of 100 where it
        has none.
    cuda_graph: take steps as replays of a CUDA graph, see :mod:`suites.harness.measure.step`.
    validation: the share of the training set that is held out and takes the place of the test set.
    schedule: of the learning rate, see :mod:`suites.harness.training.schedule`, unless a specification names one.
    budget_seconds: a run ends at the first measuring point after this time of training.
    targets: by default the problem's own.
    """

    problem: str = "digits"
    criterion: str = ""
    network: tuple[int, ...] = ()
    activation: str | tuple[str, ...] = ""
    batch_size: int = 0
    dtype: str = "float32"
    device: str = "auto"
    cuda_graph: bool = False
    validation: float = 0.0
    schedule: str = CONSTANT
    budget_seconds: float | None = None
    targets: tuple[float, ...] = ()
    initialization: str = ""


@dataclass(frozen=True, eq=False)
class Task:
    """Settings with the data of their problem: gives network, optimizer and batches to any number of runs."""

    settings: Settings
    problem: Problem
    dataset: Dataset
    criterion: Criterion

    @classmethod
    def load(cls, settings: Settings, data_root: Path | None = None, download: bool = True) -> "Task":
        """Check the settings, fill in what they leave open, and load the data onto the device.

        Raises:
            ValueError: one line that says what is wrong, what was expected, and what to do.
        """
        problem = find(settings.problem)
        if settings.targets:
            hardest_first = GOALS[problem.metric].hardest_first(set(settings.targets))
            problem = replace(problem, targets=tuple(reversed(hardest_first)))
        pick("schedule", settings.schedule, SCHEDULES)
        settings = replace(
            settings,
            problem=problem.spec,
            criterion=settings.criterion or problem.criterion_name,
            network=settings.network or problem.network,
            activation=settings.activation or problem.activation,
            initialization=settings.initialization or problem.initialization,
            batch_size=settings.batch_size or problem.batch_size or BATCH_SIZE,
            device=resolve_device(settings.device),
        )
        named = pick("criterion", settings.criterion, _criteria(problem))
        dtype = pick("dtype", settings.dtype, DTYPES)
        if settings.cuda_graph and settings.device != "cuda":
            raise ValueError("cuda graph: there is no capture on a CPU; use --device cuda, or leave it out")
        dataset = load(problem, data_root=data_root, device=settings.device, dtype=dtype, download=download)
        if settings.validation:
            dataset = dataset.with_validation(settings.validation)
        criterion = named
        if not isinstance(named, Criterion):
            criterion = from_function(named, convex=False, vectors=dataset.vectors)
        _check_network(settings, dataset)
        _check_targets(problem, dataset, criterion)
        if named not in CRITERIA.values():
            _try(problem, dataset, criterion)
        if not 1 <= settings.batch_size <= len(dataset.train):
            raise ValueError(
                f"batch size must be from 1 to the {len(dataset.train)} training images of {dataset.name}, "
                f"got {settings.batch_size}"
            )
        return cls(settings, problem, dataset, criterion)

    @property
    def title(self) -> str:
        """The problem, the criterion and the batch size, in words."""
        return f"{self.problem.name}, {self.settings.criterion}, batch {self.settings.batch_size}"

    @property
    def steps_per_epoch(self) -> int:
        return len(self.dataset.train) // self.settings.batch_size

    def network(self, seed: int) -> FCNN:
        """A network with the initial weights of a seed."""
        settings = self.settings
        return FCNN(
            settings.network,
            settings.activation,
            initialization=settings.initialization,
            seed=seed,
            device=settings.device,
            dtype=DTYPES[settings.dtype],
        )

    def step(self, choice: Choice, seed: int, first_epoch: int = 1) -> Step:
        """A fresh training step. Its batches never end: one epoch follows the other."""
        network = self.network(seed)
        batches = itertools.chain.from_iterable(
            self.dataset.batches(self.settings.batch_size, epoch, seed) for epoch in itertools.count(first_epoch)
        )
        return Step(network, choice.build(network, self.criterion), self.criterion, batches)

    def training_step(self, choice: Choice, seed: int, first_epoch: int = 1) -> Step:
        """A fresh step, captured in a CUDA graph if the settings say so."""
        step = self.step(choice, seed, first_epoch)
        return CapturedStep(step) if self.settings.cuda_graph else step

    def schedule(self, choice: Choice, optimizer: torch.optim.Optimizer, epochs: int | None) -> Schedule:
        """The schedule of a run over all its epochs; without a number of epochs it is constant."""
        return Schedule(optimizer, choice.schedule or self.settings.schedule, (epochs or 0) * self.steps_per_epoch)

    def check(self, choice: Choice, epochs: int | None = 1) -> None:
        """Refuse an optimizer that cannot be built for this task or cannot follow its schedule, before anything is
        written.

        Args:
            epochs: None if a budget alone ends a run.
        """
        optimizer, name = (
            choice.build(FCNN((1,) * len(self.settings.network), self.settings.activation), self.criterion),
            choice.schedule or self.settings.schedule,
        )
        if name == CONSTANT:
            return
        if epochs is None:
            raise ValueError(f"schedule {name} goes over all epochs of a run: give --epochs beside --budget")
        needed = {"lr", "capturable"} if self.settings.cuda_graph else {"lr"}
        for missing in sorted(needed - set.intersection(*(set(group) for group in optimizer.param_groups))):
            raise ValueError(f"optimizer {choice.spec}: schedule {name} needs its option {missing}, and it has none")

    def describe(self, choice: Choice, seed: int, epochs: int | None) -> Experiment:
        """The experiment for the header of a record. The problem's name is ``dataset`` there."""
        settings = dict(vars(self.settings))
        del settings["problem"], settings["targets"]
        return Experiment(
            optimizer=choice.spec,
            options={**choice.entry.options, **choice.options},
            seed=seed,
            epochs=epochs,
            dataset=self.problem.name,
            **settings,
            train_images=len(self.dataset.train),
            test_images=len(self.dataset.test),
            synthetic=self.problem.synthetic,
        )


def _criteria(problem: Problem) -> dict[str, Any]:
    """The known criteria and the problem's own, by name."""
    own = problem.criterion
    if isinstance(own, str):
        return dict(CRITERIA)
    name = problem.criterion_name
    if name in CRITERIA and own is not CRITERIA[name]:
        raise ValueError(f"problem {problem.name}: there is a criterion {name} already; give its own another name")
    return {**CRITERIA, name: own}


def _check_network(settings: Settings, dataset: Dataset) -> None:
    """Refuse a network that is invalid or does not fit the data."""
    network, outputs = settings.network, dataset.outputs
    if len(network) < 2 or min(network) < 1:
        raise ValueError(f"network must be two or more sizes of at least 1, got {list(network)}")
    if network[0] != dataset.features or network[-1] < outputs or (dataset.vectors and network[-1] > outputs):
        end = f"the {outputs} entries of its targets" if dataset.vectors else f"at least its {outputs} classes"
        raise ValueError(
            f"network must begin with {dataset.features}, the inputs of {dataset.name}, and end with {end}, got "
            f"{list(network)}"
        )
    activations, hidden = settings.activation, len(network) - 2
    for name in (activations,) if isinstance(activations, str) else activations:
        pick("activation", name, ACTIVATIONS)
    if not isinstance(activations, str) and len(activations) != hidden:
        raise ValueError(f"activation must be one, or one for each of {hidden} hidden layers, got {activations}")
    pick("initialization", settings.initialization, INITIALIZATIONS)


def _check_targets(problem: Problem, dataset: Dataset, criterion: Criterion) -> None:
    """Refuse a criterion that does not take the targets of the data."""
    where, kinds = f"problem {problem.name}, criterion {criterion.name}", ("classes", "vectors")
    if criterion.vectors != dataset.vectors:
        raise ValueError(f"{where}: it takes {kinds[criterion.vectors]}, and the targets are {kinds[dataset.vectors]}")
    if dataset.vectors and problem.metric == "test accuracy":
        raise ValueError(f'problem {problem.name}: vectors have no accuracy; give it metric="test loss"')
    if (criterion.least, criterion.most) != (-math.inf, math.inf):
        chunks = itertools.chain(dataset.chunks(dataset.train, 2048), dataset.chunks(dataset.test, 2048))
        ends = torch.stack([torch.stack(targets.aminmax()) for _, targets in chunks])
        least, most = ends[:, 0].min().item(), ends[:, 1].max().item()
        if least < criterion.least or most > criterion.most:
            raise ValueError(
                f"{where}: targets must be from {criterion.least:g} to {criterion.most:g}, got {least:g} to {most:g}; "
                'inputs that are targets go from 0 to 1 with scaling="unit"'
            )


def _try(problem: Problem, dataset: Dataset, criterion: Criterion) -> None:
    """Refuse a criterion of a user's own that does not work on a sample."""
    where = f"problem {problem.name}, criterion {criterion.name}"
    _, targets = next(dataset.chunks(dataset.test, 1))
    logits = torch.zeros(1, dataset.outputs, dtype=dataset.scale.dtype, device=dataset.scale.device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, when torch.func is used first
            of_one = criterion.value(logits, targets), criterion.gradient(logits, targets)
            found = [*of_one, criterion.mean_hessian(logits, targets)]
    except Exception as error:
        raise ValueError(f"{where}: it failed on a sample: {said(error)}") from error
    if not all(one.isfinite().all() for one in found):
        raise ValueError(f"{where}: value, gradient and Hessian must be finite for outputs of zero")


def resolve_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is the GPU where there is one.

    Raises:
        ValueError: one line, for another name, or if there is no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: torch finds no CUDA GPU here; use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
