"""Pictures from records, as files: loss and accuracy with bands over the seeds, and what the target costs whom."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.harness.curves import AXES, common_end, curve
from suites.harness.records import Record
from suites.harness.report import by_optimizer
from suites.harness.statistics import Interval

# Okabe and Ito's colours, which colour-blind people can tell apart; lines and markers differ as well
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX*"

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "kronbench",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}
_PAPER, _INK = "#15191f", "#e6e6e6"
_DARK: dict[Any, Any] = {
    **{f"{part}.facecolor": _PAPER for part in ("figure", "axes", "savefig")},
    **{name: _INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
}
_UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same records, the same bytes


def draw_convergence(records: Sequence[Record], folder: Path, title: str, target: float) -> list[Path]:
    """Write ``epochs`` and ``seconds``, each as PNG and SVG: train loss and test accuracy of the finished runs.

    A line is the median over the seeds and its band reaches from the lowest to the highest seed; against seconds, a
    point stands at the median time of its epoch.
    """
    paths = []
    with mpl.rc_context(_STYLE):
        for axis in ("epochs", "seconds"):
            figure = Figure(figsize=(11, 4.2), layout="constrained")
            figure.suptitle(title, fontsize=10)
            loss, accuracy = figure.subplots(1, 2)
            _draw_pair(loss, accuracy, records, axis, target)
            figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
            paths += _save(figure, folder / axis, ("png", "svg"))
    return paths


def draw_experiment(
    records: Sequence[Record], path: Path, title: str, target: float, looks: Mapping[str, int]
) -> list[Path]:
    """Write the train loss above the test accuracy against every axis, as SVG, PNG and PDF.

    Args:
        path: without a suffix.
        looks: by method the position in the palette.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(13, 7.5))
        figure.suptitle(_plain(title), fontsize=10)
        columns = figure.subplots(2, len(AXES)).T
        for (loss, accuracy), axis in zip(columns, AXES, strict=True):
            _draw_pair(loss, accuracy, records, axis, target, looks)
        handles = columns[0][0].get_legend_handles_labels()
        figure.legend(*handles, loc="lower center", ncols=5, frameon=False)
        rows = -(-len(handles[0]) // 5)
        figure.subplots_adjust(0.06, 0.11 + 0.03 * rows, 0.99, 0.93, 0.22, 0.28)
        return _save(figure, path, ("svg", "png", "pdf"))


def draw_headline(
    costs: Mapping[str, Mapping[str, Interval]], path: Path, title: str, suffixes: Sequence[str] = tuple(_UNDATED)
) -> list[Path]:
    """Write what every method takes, by what is counted, with intervals, light and dark (``-dark``), in each format.

    A median that is infinite stands as an arrow at the right edge.
    """
    paths = []
    for ending, style in (("", {}), ("-dark", _DARK)):
        with mpl.rc_context({**_STYLE, **style}):
            names = list(next(iter(costs.values())))
            figure = Figure(figsize=(5.2, 1 + len(costs) * (0.8 + 0.24 * len(names))), layout="constrained")
            figure.suptitle(_plain(title), fontsize=11)
            panels = figure.subplots(len(costs), 1, squeeze=False)[:, 0]
            for axes, (label, intervals) in zip(panels, costs.items(), strict=True):
                _draw_intervals(axes, label, intervals, dark=bool(style))
            paths += _save(figure, path.with_name(path.name + ending), suffixes)
    return paths


def _draw_intervals(axes: Axes, label: str, intervals: Mapping[str, Interval], dark: bool) -> None:
    reached = [value for interval in intervals.values() for value in interval if value < float("inf")]
    edge = 1.15 * max(reached, default=1.0)
    for position, (median, low, high) in enumerate(intervals.values()):
        colour = _colour(position, dark)
        axes.plot([min(low, edge), min(high, edge)], [position, position], color=colour, linewidth=2.5)
        marker = MARKERS[position % len(MARKERS)] if median < edge else ">"
        axes.plot([min(median, edge)], [position], color=colour, marker=marker, markersize=8, clip_on=False)
    axes.set_yticks(range(len(intervals)), [_plain(name) for name in intervals])
    axes.set(xlim=(0, edge), ylim=(len(intervals) - 0.4, -0.6), xlabel=label)


def _draw_pair(
    loss: Axes,
    accuracy: Axes,
    records: Sequence[Record],
    axis: str,
    target: float,
    looks: Mapping[str, int] | None = None,
) -> None:
    finished = [record for record in records if record.status == "finished"]
    for number, (name, group) in enumerate(by_optimizer(finished).items()):
        position = looks[name] if looks else number
        _draw(loss, position, name, group, axis, "train_loss")
        _draw(accuracy, position, name, group, axis, "test_accuracy")
    label = AXES[axis][1]
    loss.set(xlabel=label, ylabel="train loss", yscale="log")
    accuracy.set(xlabel=label, ylabel="test accuracy")
    accuracy.axhline(target, color="grey", linewidth=1, linestyle=":")
    accuracy.annotate(
        f"target {target:g}", (1, target), xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=8
    )
    if axis == "seconds" and finished:
        for axes in (loss, accuracy):
            axes.set_xlim(0, common_end(finished))


def _draw(axes: Axes, position: int, name: str, group: Sequence[Record], axis: str, quantity: str) -> None:
    drawn = curve(group, quantity)
    if axis not in drawn.along:
        return
    x, colour = drawn.along[axis], _colour(position)
    axes.plot(
        x,
        drawn.middle,
        label=_plain(name),
        color=colour,
        linestyle=LINES[position % len(LINES)],
        marker=MARKERS[position % len(MARKERS)],
        markevery=(position, max(1, len(x) // 8)),
        markersize=4,
    )
    axes.fill_between(x, drawn.low, drawn.high, color=colour, alpha=0.15, linewidth=0)


def _colour(position: int, dark: bool = False) -> str:
    colour = COLOURS[position % len(COLOURS)]
    return _INK if dark and colour == "#000000" else colour


def _plain(text: str) -> str:
    """Without matplotlib's mathematics, which a name from elsewhere may hold by accident."""
    return text.replace("$", r"\$")


def _save(figure: Figure, path: Path, suffixes: Sequence[str]) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in suffixes]
    for suffix, file in zip(suffixes, paths, strict=True):
        figure.savefig(file, dpi=130, metadata=_UNDATED[suffix])
    return paths
