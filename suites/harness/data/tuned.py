"""Settings that ``kronbench tune`` found, as types: ``digits.toml`` beside ``digits.py``, and so on.

Readers of records use this module, so it imports no torch.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from suites.harness.data.problem import Problem
from suites.harness.records.config import read_toml, write_toml
from suites.harness.records.facts import Amount, Count, Option, Share, Size

_KIND = "tuned settings"
_PROBLEMS = Path(__file__).parents[2] / "problems"


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a setting was found, and what that cost.

    space: the values tried of each option, as ``lr = "0.001:10:log"``. trials: the number of settings tried.
    extended: the options whose space was extended because the best value lay at its edge. edge: those where it still
        does.
    rungs: of successive halving: settings and epochs of each. seeds: the runs of a setting.
    epochs, seconds, gradient_equivalents: sums over all runs. unfinished: the number of runs that failed or diverged.
    rule: how the best was chosen. machine, kronbench, commit: with which it was found.
    """

    space: dict[str, str]
    trials: Size
    extended: tuple[str, ...] = ()
    edge: tuple[str, ...] = ()
    rungs: tuple[tuple[Size, Size], ...] = ()
    seeds: Size = 1
    runs: Size
    unfinished: Count = 0
    epochs: Count
    seconds: Amount
    gradient_equivalents: Amount
    rule: str
    machine: str = ""
    kronbench: str = ""
    commit: str = ""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The best setting of a method on one task.

    optimizer: its name. options: all of them, also those that were not searched (``gamma`` of ``ea_cg[gamma=0]``).
    epochs: to each target, infinite where it was not reached. loss, accuracy: after the last epoch; accuracy only where
    the problem is judged by it. All are measured on the held-out images, as medians over seeds.
    """

    optimizer: str
    options: dict[str, Option]
    problem: str
    criterion: str
    network: Annotated[tuple[Size, ...], Meta(min_length=2)]
    activation: str | tuple[str, ...]
    initialization: str = "xavier"
    batch_size: Size
    schedule: str = "constant"
    epochs: dict[str, Amount] = field(default_factory=dict)
    accuracy: Share | None = None
    loss: Amount | None = None
    search: Search

    @property
    def spec(self) -> str:
        """As optimizers are written: ``sgd[lr=1]``."""
        return written(self.optimizer, self.options)

    @property
    def variant(self) -> dict[str, Option]:
        """The options that were not searched. They tell methods of one optimizer apart."""
        return {name: value for name, value in self.options.items() if name not in self.search.space}

    @property
    def task(self) -> tuple[object, ...]:
        """The task that it was found for, see :func:`task_of`."""
        return task_of(self.problem, self)

    @property
    def place(self) -> tuple[object, ...]:
        """Its place in a file, which holds one setting for each method and task."""
        return self.optimizer, str(sorted(self.variant.items())), *self.task


def task_of(problem: str, facts: object) -> tuple[object, ...]:
    """What must be equal for a setting to apply: problem, criterion, network and so on, the batch size last.

    Args:
        facts: the settings of a task, a record's experiment or a tuned setting; they share the names of fields.
    """
    names = ("criterion", "network", "activation", "initialization", "schedule", "batch_size")
    return problem, *(getattr(facts, name) for name in names)


def written(name: str, options: Mapping[str, object]) -> str:
    """An optimizer with its options: 1.0 as 1, and texts that are no single word in quotes."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.12g}"
        return repr(value) if isinstance(value, str) and not value.isidentifier() else str(value)

    return f"{name}[{','.join(f'{option}={text(value)}' for option, value in options.items())}]" if options else name


def beside(problem: Problem) -> Path:
    """The file of a problem's settings, which need not exist."""
    return (problem.file or _PROBLEMS / f"{problem.name.replace('-', '_')}.py").with_suffix(".toml")


def settings_of(problem: Problem) -> list[Tuned]:
    """The settings beside a problem; none if there is no file.

    Raises:
        ValueError: if the file is damaged, see :func:`read_tuned`.
    """
    path = beside(problem)
    return read_tuned(path) if path.exists() else []


def read_tuned(path: Path) -> list[Tuned]:
    """The settings of a file.

    Raises:
        ValueError: one line that names the file, if it is missing, is no TOML, lacks a field or holds a wrong one, or
            has two settings of one method for one task.
    """
    try:
        found = msgspec.convert(read_toml(path, _KIND).get("settings"), list[Tuned])
    except msgspec.ValidationError as error:
        raise ValueError(f"{_KIND} {path}: {error}; kronbench tune writes such files") from None
    (place, count), *_ = [*Counter(one.place for one in found).most_common(1), (None, 0)]
    if count > 1:
        raise ValueError(f"{_KIND} {path}: expected one setting of {place[0]} for each task, found {count}")
    return found


def write_tuned(path: Path, settings: list[Tuned]) -> None:
    """Write settings into a file. Its other settings stay.

    Raises:
        ValueError: if the file is there and damaged.
        OSError: if it cannot be written.
    """
    kept = {one.place: one for one in (read_tuned(path) if path.exists() else [])}
    merged = kept | {one.place: one for one in settings}
    write_toml(path, {"settings": [_plain(one) for one in merged.values()]})


def _plain(one: Tuned) -> dict[str, object]:
    """TOML has no None, so None is left out."""
    fields = msgspec.to_builtins(one)
    return {name: value for name, value in fields.items() if value is not None}
