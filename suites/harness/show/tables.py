"""Tables from records."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from suites.harness.analysis.statistics import attained_level, median_interval
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.groups import by_optimizer, first_reaching
from suites.harness.records.record import Record
from suites.harness.units import shown_bytes


def comparison_table(
    records: Sequence[Record], step_seconds: Mapping[str, Sequence[float]], target: float
) -> pd.DataFrame:
    """One row an optimizer: medians over its seeds with intervals, see :func:`median_interval`.

    A run that failed or diverged counts as one that never reached the target; its losses are left out and it is counted
    in the column ``runs``.

    Args:
        step_seconds: samples by optimizer, interleaved: sample i of each was taken in the same round; none of those
            whose steps fail.
        target: test accuracy to reach.
    """
    rows = []
    for name, group in by_optimizer(records).items():
        finished = [record for record in group if record.status == "finished"]
        reached = [first_reaching(record, target) for record in group]
        timed = (
            zip(step_seconds[name], step_seconds[REFERENCE], strict=True)
            if {name, REFERENCE} <= step_seconds.keys()
            else ()
        )
        rows.append(
            {
                "optimizer": name,
                "train loss": shown([record.points[-1]["train_loss"] for record in finished], ".3g"),
                "test accuracy": shown([record.points[-1]["test_accuracy"] for record in finished], ".3f"),
                f"epochs to {target:g}": shown([point["epoch"] for point in reached], ".0f"),
                f"seconds to {target:g}": shown([point["training_seconds"] for point in reached], ".3g"),
                f"gradient-equivalents to {target:g}": shown([_gradients(point) for point in reached], ".0f"),
                "gradient-equivalents / step": shown([_gradients_a_step(record) for record in finished], ".2f"),
                "step time / SGD": shown([own / sgd for own, sgd in timed], ".2f"),
                "peak state": _shown_bytes([r.end["peak_state_bytes"] for r in finished if r.end]),
                "runs": shown_statuses(group),
            }
        )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown; what a name holds of its signs is shown as it is."""
    shown = table.map(_literal).rename(columns=_literal)
    return _tabulate(shown, "github")


def latex(table: pd.DataFrame) -> str:
    """The table as LaTeX, for the package booktabs."""
    return _tabulate(table, "latex_booktabs")


def plain(table: pd.DataFrame) -> str:
    """The table for a terminal."""
    return _tabulate(table, "simple")


def caption(records: Sequence[Record], target: float) -> str:
    """What the table shows and on what it was measured, in one paragraph."""
    return (
        f"{measured(records, target)} Step time: ratio to SGD with momentum, interleaved in one process. "
        "Peak state: the most that the optimizer holds within a step beside parameters, activations and deltas."
    )


def measured(records: Sequence[Record], target: float) -> str:
    """On what records were measured, and how medians, a target and gradient-equivalents are meant."""
    experiment, environment = records[0].experiment, records[0].header["environment"]
    seeds = len({record.experiment["seed"] for record in records})
    batches = sorted({record.experiment["batch_size"] for record in records})
    level = f" with intervals that cover {100 * attained_level(seeds):.3g} %" if seeds > 1 else ""
    kind = "synthetic images" if experiment["synthetic"] else "real images"
    return (
        f"{experiment['dataset']} ({kind}: {experiment['train_images']} train, {experiment['test_images']} test), "
        f"{experiment['criterion']}, {experiment['activation']}, network {'-'.join(map(str, experiment['network']))}, "
        f"batch {' or '.join(map(str, batches))}, {experiment['epochs']} epochs, "
        f"{seeds} seed{'s' if seeds > 1 else ''}; {machine(environment)}. {_shared(records)}"
        f"Medians over seeds{level}; a run that never reached test accuracy "
        f"{target:g} counts as infinite. Gradient-equivalents: operations, counted, over those of one forward and "
        "backward pass with weight gradients."
    )


def _shared(records: Sequence[Record]) -> str:
    most = max(record.header.get("at_a_time", 1) for record in records)
    return "" if most == 1 else f"{most} runs at a time shared the machine: their seconds are not for comparison. "


def machine(environment: Mapping[str, Any]) -> str:
    """On what and with which versions something was measured, in a few words."""
    gpu, git = environment["gpu"], environment["git"]
    name = gpu["name"] if gpu else f"{environment['cpu']}, {environment['threads']} threads"
    commit = f", commit {git['commit'][:10]}{' with changes' if git['dirty'] else ''}" if git else ""
    return f"{name}, torch {environment['torch']}{commit}"


def _literal(cell: Any) -> Any:
    """Text in a cell of Markdown without tags, and without what ends the cell."""
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") if isinstance(cell, str) else cell


def _tabulate(table: pd.DataFrame, style: str) -> str:
    return tabulate(table.to_dict("list"), headers="keys", tablefmt=style, disable_numparse=True)


def _gradients(point: dict[str, Any]) -> float | None:
    """Gradient-equivalents from the start; records of schema 1 did not count them."""
    return point.get("gradient_equivalents")


def _gradients_a_step(record: Record) -> float | None:
    last = record.points[-1]
    total = _gradients(last)
    return None if total is None else total / last["step"]


def shown(values: Sequence[float | None], form: str) -> str:
    """The median of a sample with its interval; ``-`` for an empty one or where a value is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    interval = median_interval(known)
    if math.isinf(interval.median):
        reached = sum(map(math.isfinite, known))
        return f"not reached ({reached} of {len(known)})" if reached else "not reached"
    median, low, high = (_number(value, form) for value in interval)
    return median if low == high == median else f"{median} [{low}, {high}]"


def _number(value: float, form: str) -> str:
    return "inf" if math.isinf(value) else format(value, form)


def _shown_bytes(values: Sequence[int]) -> str:
    if not values:
        return "-"
    return shown_bytes(median_interval(values).median)


def shown_statuses(group: Sequence[Record]) -> str:
    """How many runs finished, diverged or failed."""
    counts: dict[str, int] = {}
    for record in group:
        counts[record.status] = counts.get(record.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in counts.items())
