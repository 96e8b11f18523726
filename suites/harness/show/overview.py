"""The first table of the page: every experiment with every method, who is best, and who cannot be told from the best.

A square has the cost of a method over the cost of the best, both to the hardest target that anyone reached. Where a
method ran with several settings, its cheapest counts, and the square says of how many.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from suites.harness.analysis.answer import COSTS, Answer, answer
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.metrics import METRICS
from suites.harness.analysis.profiles import SCORED, Scoreboard, scoreboard
from suites.harness.names import plain_name
from suites.harness.records.facts import Tuning
from suites.harness.show.looks import in_order
from suites.harness.show.table import Cell, Column, Content, Table

Place = Literal["best", "level", "behind", "never"]
_MARKS = {"best": "*", "level": "=", "behind": "", "never": ""}
_WORDS = {"best": "best", "level": "level with the best", "behind": "", "never": "not reached"}


@dataclass(frozen=True)
class Square:
    """A method in an experiment, at the setting ``spec``, the cheapest of ``settings``.

    factor: the median cost over that of the best method; infinite if the target was not reached.
    text: the median cost itself.
    """

    spec: str
    factor: float
    text: str
    place: Place
    tuning: Tuning
    settings: int

    @property
    def words(self) -> str:
        """For readers who do not see colours."""
        return _WORDS[self.place]

    @property
    def shown(self) -> str:
        """The factor with two digits."""
        if math.isinf(self.factor):
            return "–"
        return f"{self.factor:.1f}" if self.factor < 9.95 else f"{self.factor:.0f}"


@dataclass(frozen=True)
class Row:
    """An experiment; ``squares``: by cost and by the plain name of a method."""

    experiment: Experiment
    answer: Answer
    squares: dict[str, dict[str, Square]]

    @property
    def tuning(self) -> Tuning | None:
        """How all settings were chosen; None if not all alike."""
        ways: set[Tuning] = {method.tuning for method in self.answer.methods.values()}
        first, *others = ways
        return None if others else first

    @property
    def facts(self) -> str:
        """``40 epochs, 10 seeds, AMD EPYC, untuned, to 0.95``."""
        seeds, processor = self.answer.seeds, self.answer.environment.processor
        parts = [self.experiment.group.setup.length, f"{seeds} seed{'s' if seeds > 1 else ''}", processor, self.tuning]
        return ", ".join([*filter(None, parts), f"to {self.answer.target:g}"])

    def best(self, cost: str) -> str:
        """The lowest cost itself; empty if nobody reached the target."""
        lead = self.answer.leads.get(cost)
        return lead.metric.text(lead.costs[lead.best].median) if lead else ""


@dataclass(frozen=True)
class Overview:
    """Rows by problem, plain names of methods in the order of columns, and the scores over problems by cost."""

    problems: dict[str, list[Row]]
    methods: list[str]
    boards: dict[str, Scoreboard]

    def table(self, cost: str) -> Table:
        """The same as a table of its own."""
        columns = [
            *(Column(key, key, brief=key) for key in ("problem", "runs")),
            *(Column(key, key) for key in ("machine", "target")),
            *(Column(method, method, ".2g", brief=method) for method in self.methods),
        ]
        rows: list[dict[str, Content]] = []
        for problem, of_problem in self.problems.items():
            for row in of_problem:
                found = row.squares.get(cost, {})
                cells = {m: Cell(s.factor, note=_MARKS[s.place]) for m, s in found.items()}
                facts = {"problem": problem, "runs": row.experiment.group.setup.length, "target": row.answer.target}
                rows.append({**facts, "machine": row.answer.environment.processor, **cells})
        title, note = f"{METRICS[cost].short}, over that of the best", "* the best; = cannot be told apart from it"
        return Table(columns, rows, f"overview-{cost}", title, note)


def overview(experiments: Sequence[Experiment]) -> Overview:
    """The answers of all experiments, side by side."""
    problems: dict[str, list[Row]] = {}
    for experiment in experiments:
        found = answer(experiment.methods, experiment.target)
        row = Row(experiment, found, {cost: _squares(found, cost) for cost in COSTS})
        problems.setdefault(experiment.group.setup.problem, []).append(row)
    specs = [spec for rows in problems.values() for row in rows for spec in row.answer.methods]
    boards = {cost: scoreboard(experiments, cost) for cost in SCORED}
    return Overview(problems, in_order(map(plain_name, specs)), boards)


def _squares(found: Answer, cost: str) -> dict[str, Square]:
    lead = found.leads.get(cost)
    if lead is None:  # nobody reached the target, or the cost says nothing here
        return {} if found.leads else {plain_name(spec): _never(found, spec) for spec in found.methods}
    squares: dict[str, Square] = {}
    least = lead.costs[lead.best].median
    for spec, interval in lead.costs.items():  # from the lowest
        name = plain_name(spec)
        place: Place = "best" if spec == lead.best else "level" if spec in lead.level else "behind"
        if math.isinf(interval.median):
            place = "never"
        factor = interval.median / least if least else 1.0
        text = lead.metric.text(interval.median)
        settings = sum(plain_name(other) == name for other in found.methods)
        squares.setdefault(name, Square(spec, factor, text, place, found.methods[spec].tuning, settings))
    return squares


def _never(found: Answer, spec: str) -> Square:
    return Square(spec, math.inf, "not reached", "never", found.methods[spec].tuning, 1)
