"""An experiment of the page: the runs of one folder, under which names they are drawn, and what makes them again."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from suites.harness.records.groups import by_optimizer
from suites.harness.records.record import Record
from suites.harness.tuning.grid import method_of


@dataclass(frozen=True)
class Tuning:
    """What ``kronbench tune`` wrote of one method: flags for compare, and the cost of the search in ``found``."""

    path: Path
    flags: dict[str, Any]
    found: dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A folder with ``runs/*.jsonl``.

    name: the folder from the results on. target: test accuracy to reach. flags: its ``config.toml``, if there is one.
    step_seconds: interleaved samples by optimizer. tunings: by those optimizers whose very setting was searched.
    """

    name: str
    folder: Path
    records: list[Record]
    target: float
    flags: dict[str, Any]
    step_seconds: dict[str, list[float]]
    tunings: dict[str, Tuning] = field(default_factory=dict)

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

        return replace(self, records=[renamed(record) for record in self.records])

    @property
    def shared_machine(self) -> bool:
        """Whether runs went beside each other, so that their seconds say little."""
        return any(record.header.at_a_time > 1 for record in self.records)

    @property
    def command(self) -> str:
        """What makes it again."""
        if self.flags:
            return f"kronbench compare --config {self.folder / 'config.toml'}"
        if figures := self._figures():
            return figures
        return "kronbench gpu --output DIR" if self.name.startswith("gpu/") else "kronbench compare"

    def _figures(self) -> str:
        """The commands of those of the paper's figures beside it that show its runs."""
        experiment, figures = self.records[0].experiment, defaultdict(list)
        for figure in sorted(self.folder.parent.glob("figure*.md"), key=lambda path: (len(path.name), path.name)):
            title = figure.read_text(encoding="utf-8").partition("\n")[0]
            if f": {experiment.criterion}, " in title and re.search(rf"\b{experiment.dataset}\b", title):
                scale = f"--scale {title.partition('(scale ')[2].partition(':')[0]}"
                length = [f"--{what}s {count}" for count, what in re.findall(r"(\d+) (epoch|seed)s?;", title)]
                tuned = ["--tuned FOLDER"] if "method tuned" in title else []
                figures[" ".join([scale, *length, "--data-root FOLDER", *tuned])].append(figure.stem)
        return "; ".join(
            f"kronbench reproduce {names[0]} {flags}"
            if len(names) == 1
            else f"for figure in {' '.join(names)}; do kronbench reproduce $figure {flags}; done"
            for flags, names in figures.items()
        )
