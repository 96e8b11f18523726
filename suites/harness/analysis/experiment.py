"""An experiment of the page: the runs of one folder, under which names they are drawn, and what makes them again."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from suites.harness.analysis.answer import values_of
from suites.harness.analysis.verdicts import StepSeconds
from suites.harness.names import method_of
from suites.harness.problems.tuned import Tuned
from suites.harness.records.groups import Group, by_optimizer
from suites.harness.records.record import Record


@dataclass(frozen=True)
class Tuning:
    """What ``kronbench tune`` found of one method, and the file that says so."""

    path: Path
    found: Tuned


@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment in a folder with ``runs/*.jsonl``, which may hold several.

    name: the folder from the results on, with a number for all but its newest experiment.
    target: test accuracy to reach.
    configs: the flags of the commands that made it, by their files beside the runs.
    step_seconds: of interleaved steps. tunings: by those optimizers whose very setting was searched.
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
        """With the runs of a method under its name alone, as other problems know it, if one setting of it ran."""
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
        """Of a metric, the value of each seed by method, see :func:`suites.harness.analysis.answer.values_of`."""
        return values_of(self.methods, metric, self.target)

    @property
    def command(self) -> str:
        """What makes it again, from the configurations beside its runs; empty where there is none."""
        return "; ".join(f"kronbench {_command_of(flags)} --config {path}" for path, flags in self.configs.items())


def _command_of(flags: Mapping[str, Any]) -> str:
    """The command whose flags they are."""
    return "reproduce" if "name" in flags else "gpu" if "convergence" in flags else "compare"
