"""The first table of the page: every problem with every method, the best ones, and those level with the best.

One experiment of each problem counts; the others are in a second table of the same form. A square has the cost of a
method over the cost of the best, to the hardest target that was reached. If a method ran with several settings, its
cheapest counts, and the square says of how many.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from suites.harness.analysis.answer import COSTS, Answer, answer
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.metrics import METRICS
from suites.harness.analysis.profiles import SCORED, Scoreboard, counting, scoreboard
from suites.harness.names import plain_name
from suites.harness.records.facts import Tuning
from suites.harness.show.looks import in_order
from suites.harness.show.table import Cell, Column, Content, Table

Place = Literal["best", "level", "behind", "never"]
_MARKS = {"best": "*", "level": "=", "behind": "", "never": ""}
_WORDS = {"best": "best", "level": "level with the best", "behind": "", "never": "not reached"}


@dataclass(frozen=True)
class Square:
    """A method in an experiment. ``spec``: its cheapest setting, out of ``settings``.

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
        """The outcome in words, for readers who do not see colours."""
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
    def problem(self) -> str:
        return self.experiment.group.setup.problem

    @property
    def tuning(self) -> str:
        """How the settings were chosen: ``tuned``, or of how many methods, ``2 tuned and 1 untuned``."""
        ways = Counter(method.tuning for method in self.answer.methods.values())
        return " and ".join(way if len(ways) == 1 else f"{count} {way}" for way, count in ways.items())

    @property
    def runs(self) -> str:
        """``10 seeds, 40 epochs``."""
        seeds = self.answer.seeds
        return f"{seeds} seed{'s' if seeds > 1 else ''}, {self.experiment.group.setup.length}"

    @property
    def facts(self) -> str:
        """``tuned, 10 seeds, 40 epochs, AMD EPYC``."""
        return ", ".join([self.tuning, self.runs, self.answer.environment.processor])

    @property
    def goal(self) -> str:
        """``to 0.97``; of a loss, ``to test loss 12.3``."""
        quantity = "" if self.answer.judged.larger_is_better else f"{self.answer.judged.quantity} "
        return f"to {quantity}{self.answer.target:g}"

    @property
    def mixed(self) -> bool:
        """Whether the settings were chosen in several ways; then each square says how."""
        return len({method.tuning for method in self.answer.methods.values()}) > 1

    def best(self, cost: str) -> str:
        """The lowest cost itself; empty if no method reached the target."""
        lead = self.answer.leads.get(cost)
        return lead.metric.text(lead.costs[lead.best].median) if lead else ""


@dataclass(frozen=True)
class Matrix:
    """Experiments as rows, and the plain names of their methods as columns, in order."""

    name: str
    rows: list[Row]

    @property
    def methods(self) -> list[str]:
        return in_order(plain_name(spec) for row in self.rows for spec in row.answer.methods)

    @property
    def titles(self) -> dict[str, str]:
        """Of the columns: ``SOAP`` for ``heavyball.SOAP``, unless several have that name, or it is a file's.

        A long name is of several words, so that the column is narrow.
        """
        own = {m: m.rpartition(".")[2] if m.replace(".", "").isidentifier() else m for m in self.methods}
        taken = Counter(own.values())
        short = {m: m if taken[name] > 1 or m.endswith(".py") else name for m, name in own.items()}
        return {m: re.sub("(?<=[a-z])(?=[A-Z])", " ", name) if len(name) > 10 else name for m, name in short.items()}

    def table(self, cost: str, briefly: Collection[str]) -> Table:
        """The same as a table. In a paper it has only the methods ``briefly``, or all if there are none."""
        columns = [
            Column("problem", "problem", brief="problem"),
            *(Column(key, key) for key in ("tuning", "runs", "machine", "target")),
            *(Column(m, m, ".2g", brief=m if m in briefly or not briefly else "") for m in self.methods),
        ]
        rows: list[dict[str, Content]] = []
        for row in self.rows:
            cells = {m: Cell(s.factor, note=_MARKS[s.place]) for m, s in row.squares.get(cost, {}).items()}
            facts = {"problem": row.problem, "tuning": row.tuning, "runs": row.runs, "target": row.answer.target}
            rows.append({**facts, "machine": row.answer.environment.processor, **cells})
        title, note = f"{METRICS[cost].short}, over that of the best", "* the best; = cannot be told apart from it"
        return Table(columns, rows, f"{self.name}-{cost}", title, note)


@dataclass(frozen=True)
class Overview:
    """The experiment of each problem that counts, the others, and the scores over problems by cost."""

    counting: Matrix
    others: Matrix
    boards: dict[str, Scoreboard]

    @property
    def rows(self) -> list[Row]:
        """All experiments, those that count first."""
        return [*self.counting.rows, *self.others.rows]

    @property
    def matrices(self) -> list[Matrix]:
        """The tables that have a row."""
        return [matrix for matrix in (self.counting, self.others) if matrix.rows]

    def table(self, matrix: Matrix, cost: str) -> Table:
        """A matrix as a table. In a paper it has only the methods with a score, and the best of each problem."""
        found = [square for row in matrix.rows for square in row.squares[cost].items()]
        best = [method for method, square in found if square.place == "best"]
        return matrix.table(cost, {*self.boards.get(cost, self.boards[SCORED[0]]).scores, *best})

    @property
    def tables(self) -> list[Table]:
        return [self.table(matrix, cost) for cost in COSTS for matrix in self.matrices]


def overview(experiments: Sequence[Experiment]) -> Overview:
    """The answers of all experiments, side by side."""
    found = counting(experiments)
    sets = [one.group.setup.dataset for one in found.values()]
    counts = dict(sorted(found.items(), key=lambda item: sets.index(item[1].group.setup.dataset)))
    others = [one for one in experiments if one is not counts[one.group.setup.problem]]
    others.sort(key=lambda one: list(counts).index(one.group.setup.problem))
    boards = {cost: scoreboard(experiments, cost) for cost in SCORED}
    return Overview(
        Matrix("overview", [_row(one) for one in counts.values()]),
        Matrix("others", [_row(one) for one in others]),
        boards,
    )


def _row(experiment: Experiment) -> Row:
    found = answer(experiment.methods, experiment.target)
    return Row(experiment, found, {cost: _squares(found, cost) for cost in COSTS})


def _squares(found: Answer, cost: str) -> dict[str, Square]:
    lead = found.leads.get(cost)
    if lead is None:  # no method reached the target, or the cost is unknown
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
