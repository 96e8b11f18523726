"""The tables of training: medians and means with intervals, pairs, searches, and the health of solves."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from suites.harness.analysis.answer import Answer, told
from suites.harness.analysis.experiment import Experiment, Tuning
from suites.harness.analysis.metrics import METRICS, STEP_RATIO, judged_by
from suites.harness.analysis.profiles import LARGEST_RATIO, Scoreboard
from suites.harness.analysis.statistics import Estimate, improvements, median_interval
from suites.harness.analysis.verdicts import StepSeconds, step_ratios
from suites.harness.names import other_options, plain_name
from suites.harness.records.facts import SolverHealth
from suites.harness.records.groups import by_optimizer, tuning_of
from suites.harness.records.record import Record
from suites.harness.show.looks import by_label, labels
from suites.harness.show.table import Cell, Column, Content, Table, slug, table_of

_TROUBLE = ("failed_factorizations", "negative_curvature", "not_finite", "ill_conditioned")
_BRIEF = {
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "gradients": "grad.-equiv.",
    "seconds": "seconds",
}  # in a paper
_COSTS = ("epochs", "seconds", "gradients", "gradients_a_step")


def comparison_table(records: Sequence[Record], step_seconds: StepSeconds, target: float) -> Table:
    """One row for each optimizer: medians over its seeds with intervals, see :func:`median_cell`.

    A run that failed or diverged counts as one that missed the target, and its losses are left out. So is a run without
    an end. The column ``runs`` counts all.

    Args:
        step_seconds: by optimizer, see :func:`suites.harness.analysis.verdicts.step_ratios`.
        target: value of the problem's metric to reach.
    """
    trained = ("train_loss", judged_by(records).key, *_COSTS)
    columns = [
        Column("method", "method", brief="method"),
        Column("optimizer", "setting"),
        Column("tuning", "tuning", brief="setting"),
        *(metric_column(key, target) for key in trained),
        Column(STEP_RATIO.key, STEP_RATIO.label, STEP_RATIO.form),
        metric_column("peak_state", target),
        Column("runs", "runs"),
    ]
    groups = by_optimizer(records)
    names = labels(groups)
    rows = [{"method": names[spec], **_row(spec, group, step_seconds, target)} for spec, group in groups.items()]
    return Table(columns, rows)


def short_table(found: Answer, groups: Mapping[str, Sequence[Record]]) -> Table:
    """The answer as a table of a few columns: ``*`` is the best, ``=`` cannot be told from it, ``†`` is untuned.

    Below the name of a method stands its setting, unless it is the default.
    """
    columns = [metric_column(key, found.target) for key in (found.judged.key, *(found.leads or ["train_loss"]))]
    columns = [replace(column, form=".2g") if column.key == "seconds" else column for column in columns]  # 80 columns
    return Table([Column("method", "method"), *columns], [_short_row(found, m, groups[m]) for m in found.methods])


def _short_row(found: Answer, spec: str, group: Sequence[Record]) -> dict[str, Content]:
    method = found.methods[spec]
    lines = [plain_name(spec) + ("†" if method.tuning == "untuned" else ""), " ".join(other_options(spec))]
    if method.edge:
        lines.append(f"{' and '.join(method.edge)} at the edge")
    if any(record.status != "finished" for record in group):
        lines.append(statuses(group))
    row: dict[str, Content] = {"method": "\n".join(filter(None, lines))}
    for key in (found.judged.key, "train_loss"):
        cell = metric_cell(key, group, found.target)
        row[key] = cell and cell.value
    for key, lead in found.leads.items():
        cell = metric_cell(key, group, found.target)
        mark = "*" if spec == lead.best else "=" if spec in lead.level else ""
        if cell and math.isinf(cell.value):
            row[key] = f"{cell.note.strip('()') or 'never'} {mark}".strip()
        elif cell:
            row[key] = Cell(cell.value, note=mark) if key == "peak_state" else replace(cell, note=mark)  # 80 columns
    return row


def _row(name: str, group: Sequence[Record], step_seconds: StepSeconds, target: float) -> dict[str, Content]:
    return {
        "optimizer": name,
        "tuning": shown_tuning(group),
        **{key: metric_cell(key, group, target) for key in ("train_loss", judged_by(group).key, *_COSTS, "peak_state")},
        "step_ratio": median_cell(step_ratios(step_seconds, name)),
        "runs": statuses(group),
    }


def shown_tuning(group: Sequence[Record]) -> str:
    """How the setting was chosen, and its options at the edge of the search: ``tuned, lr at the edge``."""
    ways = {", ".join([tuning_of(one), *(f"{name} at the edge" for name in one.header.edge)]) for one in group}
    return " or ".join(sorted(ways))


def metric_column(key: str, target: float) -> Column:
    """The column of a metric, with the name and the format of the registry."""
    metric = METRICS[key].at(target)
    return Column(key, metric.label, metric.form, brief=_BRIEF.get(key, ""))


def metric_cell(key: str, group: Sequence[Record], target: float) -> Cell | None:
    """The median of a metric over runs, see :func:`median_cell`.

    Costs of the target count all runs that ended; other metrics count completed runs.
    """
    metric = METRICS[key]
    counted = [record for record in group if (record.ended if metric.to_target else record.completed)]
    return median_cell([metric.of(record, target) for record in counted])


def median_cell(values: Sequence[float | None]) -> Cell | None:
    """The median of a sample with its interval; None if it is empty or a value is unknown.

    If the median is infinite, the cell says how many runs reached the target.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    middle, low, high = median_interval(known)
    reached = sum(map(math.isfinite, known))
    return Cell(middle, low, high, f"({reached} of {len(known)})" if math.isinf(middle) and reached else "")


def statuses(group: Sequence[Record]) -> str:
    """How many runs finished, diverged or failed."""
    return ", ".join(f"{count} {status}" for status, count in Counter(record.status for record in group).items())


def with_tuning(experiment: Experiment) -> Table:
    """The comparison, with the cost to the target including the search for the setting."""
    table = comparison_table(experiment.records, experiment.step_seconds, experiment.target)
    for unit in ("seconds", "gradients"):
        costs = experiment.costs(unit)
        table = table.with_column(
            Column(f"{unit}_with_tuning", f"{unit} with tuning"),
            [_with_tuning(experiment.tunings.get(name), unit, costs.get(name, {})) for name in experiment.methods],
        )
    return replace(table, name=slug(experiment.name), title="Medians over seeds", folded=False)


def _with_tuning(tuning: Tuning | None, unit: str, costs: Mapping[int, float]) -> Content:
    if tuning is None or not costs:
        return "no tuning recorded"
    search = tuning.found.search
    return (search.seconds if unit == "seconds" else search.gradient_equivalents) + median(costs.values())


def pairs(experiments: Sequence[Experiment], name: str, title: str) -> Table:
    """The probability of improvement of every pair, in gradient-equivalents to the target, over shared problems."""
    of_problems = [experiment.costs("gradients") for experiment in experiments]
    names = list(dict.fromkeys(method for costs in of_problems for method in costs))
    found: dict[tuple[str, str], Estimate] = {}
    for pair in itertools.combinations(names, 2):
        both = [costs for costs in of_problems if set(pair) <= costs.keys()]
        if both:
            found |= improvements({method: [list(costs[method].values()) for costs in both] for method in pair})
    cells = {pair: Cell(*gain, "" if told(gain) else "=") for pair, gain in found.items()}
    shown = labels(names)
    columns = [Column("", "method"), *(Column(other, f"< {shown[other]}", ".2f") for other in names)]
    rows = [{"": shown[own], **{other: cells.get((own, other)) for other in names}} for own in names]
    note = (
        "The probability that a run of the row takes fewer gradient-equivalents to the target than a run of the "
        "column, with its 95 % interval; ties count half. Each pair stands by itself. The sign = marks pairs that "
        "cannot be told apart: their interval holds one half."
    )
    return Table(columns, rows, name, title, note)


def tunings(found: Sequence[Tuning]) -> Table:
    """The results of all searches, and their costs."""
    rows: list[dict[str, Content]] = [
        {
            "best setting": one.spec,
            "problem": one.problem,
            "criterion": one.criterion,
            "batch": one.batch_size,
            "trials": one.search.trials,
            "at the edge": ", ".join(one.search.edge),
            "runs": one.search.runs,
            "seconds": one.search.seconds,
            "gradient-equivalents": one.search.gradient_equivalents,
        }
        for one in (tuning.found for tuning in found)
    ]
    return replace(table_of(rows), name="tunings", title="What the searches found and cost")


def solver_failures(methods: Mapping[str, Sequence[Record]], name: str) -> Table:
    """The number of solves with problems, by method."""
    rows: list[dict[str, Content]] = []
    for label, records in by_label(methods).items():
        solvers = [point.solver for record in records for point in record.points if point.solver]
        if solvers:
            most = max(max(solver.iterations_max, default=0) for solver in solvers)
            counts = {kind.replace("_", " "): _total(solvers, kind) for kind in _TROUBLE}
            rows.append({"method": label, "most CG iterations": most, **counts})
    return replace(table_of(rows), name=name, title="Solves that met trouble")


def _total(solvers: Sequence[SolverHealth], name: str) -> int | None:
    """The sum over all steps; None if a record does not count it."""
    counts = [count for solver in solvers if (count := getattr(solver, name)) is not None]
    return sum(map(sum, counts)) if len(counts) == len(solvers) else None


def scores(board: Scoreboard) -> Table:
    """The scores in one cost, from the highest. The note says over which problems, and which are missing."""
    count, unit = len(board.experiments), METRICS[board.cost].short
    columns = [
        Column("method", "method"),
        Column("score", f"score in {unit}", ".2f"),
        Column("best", "best or level with it"),
        Column("tuned", "tuned"),
    ]
    rows: list[dict[str, Content]] = [
        {
            "method": method,
            "score": Cell(*score.value),
            "best": f"{len(score.best)} of {count}",
            "tuned": f"{len(score.tuned)} of {count}",
        }
        for method, score in board.scores.items()
    ]
    return Table(columns, rows, f"score-{board.cost}", f"Score in {unit}", _about(board))


def _about(board: Scoreboard) -> str:
    """The problems of the scores, and those that are missing."""
    problems = [
        f"{problem} to {one.target:g} ({len({r.experiment.seed for r in one.records})} seeds)"
        for problem, one in board.experiments.items()
    ]
    lacking = [f"{method} lacks {'; '.join(missing)}" for method, missing in board.lacking.items()]
    left_out = [f"{problem} lacks {'; '.join(missing)}" for problem, missing in board.left_out.items()]
    return " ".join(
        [
            f"AlgoPerf's score: the mean height of the performance profile up to {LARGEST_RATIO:g} times the cheapest.",
            f"Problems: {'; '.join(problems)}.",
            *([f"Without a score: {'. '.join(lacking)}."] if lacking else []),
            *([f"Problems that do not count: {'. '.join(left_out)}."] if left_out else []),
            *([f"Nobody reached the target of {'; '.join(board.unsolved)}."] if board.unsolved else []),
        ]
    )
