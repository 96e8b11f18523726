"""The tables of training: medians and means with intervals, pairs, searches, single runs and their solves."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from suites.harness.analysis.statistics import Estimate, improvements, stratified_interval
from suites.harness.show.experiment import Experiment, Tuning
from suites.harness.show.headline import cost_values, told
from suites.harness.show.table import Table, figure, interval, slug
from suites.harness.show.tables import comparison_table


def comparison(experiment: Experiment) -> Table:
    """Medians with intervals, and the time to the target with that of the tuning."""
    frame = comparison_table(experiment.records, experiment.step_seconds, experiment.target)
    for unit, spent in (("seconds", "training_seconds"), ("gradients", "gradient_equivalents")):
        costs = cost_values(experiment, f"{unit} to")
        frame[f"{unit} with tuning"] = [
            _with_tuning(experiment.tunings.get(name), spent, costs.get(name, {})) for name in frame["optimizer"]
        ]
    return Table(slug(experiment.name), "Medians over seeds", frame, folded=False)


def _with_tuning(tuning: Tuning | None, spent: str, costs: Mapping[int, float]) -> str:
    if tuning is None or not costs:
        return "no tuning recorded"
    total = tuning.found[spent] + float(pd.Series(list(costs.values())).median())
    return "not reached" if math.isinf(total) else f"{total:.4g}"


def middle_means(experiments: Sequence[Experiment], name: str, title: str) -> Table:
    """Interquartile means over the runs of all experiments, with stratified bootstrap intervals."""
    kinds = (("gradients to", ".4g"), ("seconds to", ".3g"), ("test accuracy", ".3f"))
    kinds = kinds if len(experiments) == 1 else kinds[2:]  # costs of several problems have no common scale
    rows: dict[str, dict[str, str]] = {}
    for metric, form in kinds:
        for method, strata in _strata(experiments, metric).items():
            row = rows.setdefault(method, {"optimizer": method, "problems": str(len(strata))})
            row[metric.removesuffix(" to") + " (IQM)"] = _estimate(stratified_interval(strata), form)
    note = (
        "Interquartile mean: of the middle half of the runs; 95 % by a bootstrap that draws seeds anew within each "
        "problem; below 5 seeds there is no such interval. A run that missed the target is infinite, the accuracy of "
        "one that failed or diverged is 0."
    )
    return Table(name, title, pd.DataFrame(list(rows.values())).fillna("-"), note)


def pairs(experiments: Sequence[Experiment], name: str, title: str) -> Table:
    """The probability of improvement of every pair, in gradient-equivalents to the target, over shared problems."""
    of_problems = [cost_values(experiment, "gradients to") for experiment in experiments]
    names = list(dict.fromkeys(method for costs in of_problems for method in costs))
    found: dict[tuple[str, str], Estimate] = {}
    for pair in itertools.combinations(names, 2):
        both = [costs for costs in of_problems if set(pair) <= costs.keys()]
        if both:
            found |= improvements({method: [list(costs[method].values()) for costs in both] for method in pair})
    rows = [{"optimizer": own, **{f"< {other}": _gain(found.get((own, other))) for other in names}} for own in names]
    note = (
        "The probability that a run of the row takes fewer gradient-equivalents to the target than a run of the "
        "column, ties counting half, with its 95 % interval, each pair by itself; = marks pairs that are "
        "indistinguishable, whose interval holds one half."
    )
    return Table(name, title, pd.DataFrame(rows), note)


def tunings(found: Sequence[Tuning]) -> Table:
    """What every search found, and what it cost."""
    rows = [
        {
            "best setting": str(one.found["setting"]),
            "data set": str(one.flags.get("dataset", "-")),
            "criterion": str(one.flags.get("criterion", "-")),
            "batch": str(one.found.get("batch_size", "-")),
            "runs": str(one.found.get("runs", "-")),
            "seconds": figure(one.found["training_seconds"]),
            "gradient-equivalents": figure(one.found.get("gradient_equivalents")),
        }
        for one in found
    ]
    return Table("tunings", "What the searches found and cost", pd.DataFrame(rows))


def runs(experiment: Experiment) -> list[dict[str, Any]]:
    """Of each run who, how it ended and why, and its record."""
    return [
        {
            "optimizer": record.experiment["optimizer"],
            "seed": record.experiment["seed"],
            "status": record.status,
            "reason": (record.end or {}).get("reason") or "",
            "path": record.path,
        }
        for record in experiment.records
    ]


def _strata(experiments: Sequence[Experiment], metric: str) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for experiment in experiments:
        for method, values in cost_values(experiment, metric).items():
            found.setdefault(method, []).append(list(values.values()))
    return found


def _gain(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return interval(estimate, ".2f") + ("" if told(estimate) else " =")


def _estimate(estimate: Estimate, form: str) -> str:
    if math.isinf(estimate.value):
        return "not reached"
    return format(estimate.value, form) if estimate.low == -math.inf else interval(estimate, form)


def solver_failures(experiments: Sequence[Experiment]) -> Table:
    """Of each method how many solves of its runs met trouble."""
    rows = []
    for experiment in experiments:
        for method, records in experiment.methods.items():
            solvers = [point["solver"] for record in records for point in record.points if point.get("solver")]
            if solvers:
                counts = {
                    name.replace("_", " "): str(sum(sum(solver.get(name, [])) for solver in solvers))
                    for name in ("failed_factorizations", "negative_curvature")
                }
                most = max(max(solver["iterations_max"]) for solver in solvers)
                row = {"experiment": experiment.name, "optimizer": method, "most CG iterations": str(most)}
                rows.append({**row, **counts})
    return Table("solver-failures", "Solves that met trouble", pd.DataFrame(rows))
