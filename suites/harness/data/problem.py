"""What a problem is, and how it is found: as a module of ``suites/problems``, or as one file of a user's own.

digits                     a module of that folder; an underscore in its name becomes a hyphen
mine.py, folder/mine.py    a file with one ``Problem`` in it

Readers of records use this module, so it imports no torch.
"""

import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from suites.harness.names import import_file, pick, unknown
from suites.harness.records.facts import GOALS, Experiment, Header, ProblemFacts
from suites.harness.records.groups import hardest_reached
from suites.harness.records.record import Record

if TYPE_CHECKING:
    from torch import Tensor

    from optimizers.core import Criterion

PROBLEMS = "suites.problems"
_TARGETS = (0.5,)


class DataError(ValueError):
    """An error in the data: one line that says what is wrong and what to do."""


class MissingError(DataError):
    """The data are not there, and may not or cannot be downloaded."""


class Arrays(NamedTuple):
    """The data of a problem: inputs [N, D] and targets of the training and of the test set.

    Inputs are bytes (uint8; images channel by channel) or any other finite numbers, such as float32. Targets are

    - labels [N], where there are ``classes``: the place of each one's class, a whole number from 0;
    - vectors [N, C], finite numbers, where there are none;
    - None for an autoencoder: the inputs themselves, as the network gets them.
    """

    train: tuple[np.ndarray, np.ndarray | None]
    test: tuple[np.ndarray, np.ndarray | None]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Data, network, criterion and targets: all that a file needs to say. :func:`find` fills in the last three fields.

    summary: a line about the data.
    network: sizes of the layers: first the D inputs, last the number of classes (or more), or the C entries of a
        vector.
    read: returns the data, given the data root, a seed and whether it may download.
    criterion: the name of one, or one of the file's own: a Criterion, or a function of the logits and the target of one
        sample, see :func:`optimizers.core.criteria.from_function`.
    targets: values of the metric that runs should reach. The hardest that was reached counts.
    metric: measured on the test set; one of :data:`suites.harness.records.facts.GOALS`.
    unit: of the metric; empty for its usual one.
    scaling: ``channel``: inputs are normalized to mean 0 and standard deviation 1 over the training set;
        ``unit``: they go from 0 to 1, so bytes are divided by 255.
    channels: the number of parts of equal length that are normalized by themselves; None: every input is.
    activation, initialization: of the network, as :class:`optimizers.core.FCNN` takes them.
    batch_size, epochs: defaults for this problem; None: those of the command.
    synthetic: the data are noise, good for time and memory alone.
    name: that of the file. file, source: path and text of a user's own file.
    """

    summary: str
    network: tuple[int, ...]
    read: Callable[[Path, int, bool], Arrays]
    criterion: "str | Criterion | Callable[..., Tensor]" = "cross-entropy"
    targets: tuple[float, ...] = _TARGETS
    metric: str = "test accuracy"
    unit: str = ""
    scaling: Literal["channel", "unit"] = "channel"
    channels: int | None = None
    activation: str | tuple[str, ...] = "sigmoid"
    initialization: str = "xavier"
    batch_size: int | None = None
    epochs: int | None = None
    synthetic: bool = False
    name: str = ""
    file: Path | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("network", int), ("targets", int | float)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not value or not all(isinstance(number, kinds) for number in value):
                raise ValueError(f"{name} must be a tuple of one or more numbers, got {value!r}")
        if not isinstance(self.criterion, str) and not self.criterion_name:
            raise ValueError(
                f"criterion must be the name of one, a Criterion or a function of one sample, got {self.criterion!r}"
            )
        pick("metric", self.metric, GOALS)
        pick("scaling", self.scaling, dict.fromkeys(("channel", "unit"), True))
        for target in self.targets:
            if self.larger_is_better and not 0 < target <= 1:
                raise ValueError(f"target must be an accuracy in (0, 1], got {target}")
            if not math.isfinite(target):
                raise ValueError(f"target must be a finite number, got {target}")
        for name in ("batch_size", "epochs"):
            if (count := getattr(self, name)) is not None and not (isinstance(count, int) and count > 0):
                raise ValueError(f"{name} must be a whole number from 1, or None, got {count!r}")

    @property
    def criterion_name(self) -> str:
        """The name of its criterion; for a function, the function's."""
        own = self.criterion
        return own if isinstance(own, str) else getattr(own, "name", getattr(own, "__name__", ""))

    @property
    def larger_is_better(self) -> bool:
        """Whether a larger value of the metric is better."""
        return GOALS[self.metric].larger_is_better

    @property
    def spec(self) -> str:
        """The name or path by which :func:`find` finds it, from any folder."""
        return str(self.file) if self.file else self.name

    def facts(self) -> ProblemFacts:
        """What a record holds of it beside the name, with the text of a user's own file."""
        return ProblemFacts(
            metric=self.metric,
            unit=self.unit or GOALS[self.metric].unit,
            larger_is_better=self.larger_is_better,
            targets=self.targets,
            source=self.source,
        )


def named() -> dict[str, Problem]:
    """The problems of ``suites/problems`` by name; a module there may also hold none."""
    package = import_module(PROBLEMS)
    modules = (import_module(f"{PROBLEMS}.{info.name}") for info in pkgutil.iter_modules(package.__path__))
    return {name_of(module.__file__ or ""): _found(module) for module in modules if _problems_in(module)}


def find(spec: str) -> Problem:
    """The problem with this name, or in this file.

    Raises:
        ValueError: one line, if there is none, or the file cannot be imported or does not hold one problem.
    """
    known = named()
    if not spec.endswith(".py"):
        if spec not in known:
            raise ValueError(f"{unknown('problem', spec, known)}, or a file such as mine.py")
        return known[spec]
    path = Path(spec)
    if name_of(spec) in known:
        raise ValueError(f"problem {path}: kronbench has a problem {name_of(spec)}; give the file another name")
    module, source = import_file("problem", path)
    return replace(_found(module), file=path.resolve(), source=source)


def name_of(spec: str) -> str:
    """The name of the problem with this name or in this file."""
    return Path(spec).stem.replace("_", "-")


def target_of(records: Sequence[Record], given: Sequence[float] | float | None = None) -> float:
    """The target that counts for the runs of an experiment, see
    :func:`suites.harness.records.groups.hardest_reached`.

    Args:
        given: the targets of the configuration, if it has some. An old one has a single number, which stands for the
            problem's own targets if it is one of them.
    """
    own = targets_of(records[0].header)
    if isinstance(given, int | float):
        given = () if given in own else (given,)
    return hardest_reached(records, given or own)


def targets_of(header: Header[Experiment]) -> tuple[float, ...]:
    """The targets of a record, from its header. An old header has none, or only the easiest; then those that the
    problem has today.
    """
    problem = named().get(header.experiment.dataset)
    if header.problem and (header.code or not problem):
        return header.problem.targets
    return problem.targets if problem else _TARGETS


def _problems_in(module: ModuleType) -> dict[str, Problem]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Problem) and name[0] != "_"}


def _found(module: ModuleType) -> Problem:
    found = _problems_in(module)
    if len(found) != 1:
        raise ValueError(f"problem {module.__file__}: it must hold one Problem, found {', '.join(found) or 'none'}")
    (problem,) = found.values()
    return replace(problem, name=name_of(module.__file__ or ""))
