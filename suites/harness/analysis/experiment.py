"""The contents of a folder of results: experiments and other measurements."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from suites.harness.analysis.answer import values_of
from suites.harness.analysis.history import Benchmark, read_history
from suites.harness.analysis.verdicts import StepSeconds
from suites.harness.data.problem import named, target_of
from suites.harness.data.tuned import Tuned, beside, read_tuned, task_of
from suites.harness.names import method_of
from suites.harness.records import results
from suites.harness.records.beside import Bench, checked_flags, read_step_seconds
from suites.harness.records.config import read_toml
from suites.harness.records.groups import Group, by_optimizer, experiments
from suites.harness.records.measured import MemoryPeak, StepTime
from suites.harness.records.record import Record, read


@dataclass(frozen=True)
class Tuning:
    """A setting that ``kronbench tune`` found, and its file."""

    path: Path
    found: Tuned


@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment. A folder with ``runs/*.jsonl`` may hold several.

    name: the path of the folder below the results, with a number for all but its newest experiment.
    target: value of the problem's metric to reach.
    configs: the flags of the commands that made it, by file.
    step_seconds: of interleaved steps. tunings: by optimizer, where a search found exactly its setting.
    """

    name: str
    folder: Path
    group: Group
    target: float
    configs: dict[Path, dict[str, Any]]
    step_seconds: StepSeconds
    tunings: dict[str, Tuning] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        return self.group.records

    @property
    def methods(self) -> dict[str, list[Record]]:
        return by_optimizer(self.records)

    @cached_property
    def by_method(self) -> "Experiment":
        """The same, with a method under its name without options if only one setting of it ran."""
        settings = Counter(method_of(spec) for spec in self.methods)

        def renamed(record: Record) -> Record:
            method = method_of(record.experiment.optimizer)
            if settings[method] > 1:
                return record
            return replace(
                record, header=replace(record.header, experiment=replace(record.experiment, optimizer=method))
            )

        return replace(self, group=replace(self.group, records=[renamed(record) for record in self.records]))

    def costs(self, metric: str) -> dict[str, dict[int, float]]:
        """The values of a metric by method and seed, see :func:`suites.harness.analysis.answer.values_of`."""
        return values_of(self.methods, metric, self.target)

    @property
    def files(self) -> list[Path]:
        """Records, configurations and step times."""
        return [*(record.path for record in self.records), *self.configs, *self.folder.glob("step_seconds.json")]

    @property
    def command(self) -> str:
        """The command that makes it again, from the configurations beside its runs; empty if there are none."""
        return "; ".join(f"kronbench {_command_of(flags)} --config {path}" for path, flags in self.configs.items())


def _command_of(flags: Mapping[str, object]) -> str:
    """The command of a configuration. Old files do not name it; their flags tell."""
    if "command" in flags:
        return str(flags["command"])
    return "reproduce" if "name" in flags else "gpu" if "convergence" in flags else "compare"


@dataclass(frozen=True)
class Results:
    """The contents of a folder. ``unread``: one line for each file that could not be read."""

    folder: Path
    experiments: list[Experiment]
    tunings: list[Tuning]
    step_times: list[results.Measurement[StepTime]]
    memory: list[results.Measurement[MemoryPeak]]
    benches: list[results.Measurement[Bench]]
    papers: list[results.PaperTable]
    history: list[Benchmark]
    unread: list[str]


def collect(folder: Path) -> Results:
    """Read everything under a folder of results. A folder ``runs`` stands for its parent.

    Raises:
        ValueError: one line, if there is no such folder, or nothing in it to report.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; `kronbench compare` writes one")
    if folder.resolve().name == "runs":
        folder = folder.resolve().parent
    unread: list[str] = []
    tunings = _tunings(sorted(folder.rglob("tuned.toml")), unread)
    of_problems = _tunings(filter(Path.exists, map(beside, named().values())), unread)
    ran = list(_experiments(folder, [*tunings, *of_problems], unread))
    used = [tuning for experiment in ran for tuning in experiment.tunings.values()]
    found = Results(
        folder,
        ran,
        [*tunings, *(tuning for tuning in of_problems if tuning in used)],
        results.step_times(folder, unread),
        results.memory(folder, unread),
        results.benches(folder, unread),
        results.papers(folder, unread),
        read_history(folder / "asv", unread),
        unread,
    )
    if not any(
        (found.experiments, tunings, found.step_times, found.memory, found.benches, found.papers, found.history)
    ):
        why = "; ".join([*unread[:3], *(["..."] if unread[3:] else [])])
        raise ValueError(
            f"{folder}: nothing to report; "
            + (f"not read: {why}" if why else "`kronbench compare` writes records to results/latest")
        )
    return found


def _experiments(folder: Path, tunings: list[Tuning], unread: list[str]) -> Iterator[Experiment]:
    for runs in sorted(path for path in folder.rglob("runs") if path.is_dir()):
        paths = sorted(runs.parent.glob("*.toml"), key=lambda path: (len(path.name), path.name))
        configs = dict(results.read_each(paths, lambda path: (path, checked_flags(path, read_toml(path))), unread))
        flags = configs.get(runs.parent / "config.toml", {})
        order = {spec: position for position, spec in enumerate(flags.get("optimizer", ["sgd"]))}
        records = list(results.read_each(sorted(runs.glob("*.jsonl")), read, unread))
        if not records or any(record.experiment.validation for record in records):
            continue  # runs of a search
        records.sort(key=lambda r: (order.get(r.experiment.optimizer, len(order)), r.experiment.optimizer))
        steps = list(results.read_each(runs.parent.glob("step_seconds.json"), read_step_seconds, unread))
        name = runs.parent.relative_to(folder).as_posix() if runs.parent != folder else folder.resolve().name
        for number, group in enumerate(experiments(records), start=1):
            of_optimizers = by_optimizer(group.records).items()
            yield Experiment(
                name if number == 1 else f"{name} ({number})",
                runs.parent,
                group,
                target_of(group.records, flags.get("target")),
                configs,
                steps[0] if steps and number == 1 else {},
                {spec: t for spec, own in of_optimizers for t in tunings if _searched(t, spec, own[0])},
            )


def _tunings(paths: Iterable[Path], unread: list[str]) -> list[Tuning]:
    files = results.read_each(paths, lambda path: [Tuning(path, found) for found in read_tuned(path)], unread)
    return [tuning for found in files for tuning in found]


def _searched(tuning: Tuning, optimizer: str, record: Record) -> bool:
    """Whether the search found exactly this setting for this problem."""
    facts = record.experiment
    return tuning.found.task == task_of(facts.dataset, facts) and tuning.found.spec == optimizer
