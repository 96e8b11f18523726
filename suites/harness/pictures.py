"""Pictures: loss and accuracy against epochs and against seconds, with bands over the seeds; growth of seconds."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.harness.records import Record
from suites.harness.report import by_optimizer, first_reaching
from suites.harness.statistics import median_interval

Axis = Literal["seconds", "epochs"]
AXES: tuple[Axis, ...] = ("seconds", "epochs")
ALONG = {"seconds": "training_seconds", "epochs": "epoch"}  # the field of a measuring point
_AXIS_LABELS = {"seconds": "seconds of training", "epochs": "epochs"}

# Okabe and Ito's colours, which colour-blind people can tell apart; lines and markers differ as well
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = "osD^vPX*"

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "kronbench",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}


def draw_convergence(records: Sequence[Record], folder: Path, title: str, target: float) -> list[Path]:
    """Write ``epochs`` and ``seconds``, each as PNG and SVG, see :func:`draw_curves`."""
    groups = by_optimizer(records)
    return [path for axis in AXES for path in draw_curves(groups, (axis,), folder / axis, title, target)]


def draw_curves(
    groups: Mapping[str, Sequence[Record]],
    axes: Sequence[Axis],
    stem: Path,
    title: str,
    target: float,
    dashed: Collection[str] | None = None,
) -> list[Path]:
    """Write ``stem`` as PNG and SVG: train loss and test accuracy of the finished runs, a row of panels for each axis.

    A line is the median over the seeds and its band reaches from the lowest to the highest seed; against seconds, a
    point stands at the median time of its epoch. A ring marks where the median run reaches the target.

    Args:
        groups: records by the name of their line.
        dashed: names of lines that have the colour of the line before and are dashed, all others being solid; None
            gives every line a style of its own.
    """
    finished = {name: [record for record in group if record.status == "finished"] for name, group in groups.items()}
    finished = {name: group for name, group in finished.items() if group}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 0.6 + 3.8 * len(axes)), layout="constrained")
        figure.suptitle(title, fontsize=10, wrap=True)
        for axis, (loss, accuracy) in zip(axes, figure.subplots(len(axes), 2, squeeze=False), strict=True):
            position = -1
            for name, group in finished.items():
                position += dashed is None or name not in dashed
                style = _style(position, None if dashed is None else name in dashed)
                _draw(loss, name, group, axis, "train_loss", style)
                _draw(accuracy, name, group, axis, "test_accuracy", style)
                _mark(accuracy, group, axis, target, style["color"])
            loss.set(xlabel=_AXIS_LABELS[axis], ylabel="train loss", yscale="log")
            accuracy.set(xlabel=_AXIS_LABELS[axis], ylabel="test accuracy")
            accuracy.axhline(target, color="grey", linewidth=1, linestyle=":")
            accuracy.annotate(
                f"target {target:g}", (1, target), xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=8
            )
            if axis == "seconds":
                for panel in (loss, accuracy):
                    panel.set_xlim(0, _common_end(finished))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        return _save(figure, stem)


def _style(position: int, dashed: bool | None) -> dict[str, Any]:
    return {
        "color": _COLOURS[position % len(_COLOURS)],
        "linestyle": _LINES[position % len(_LINES)] if dashed is None else "--" if dashed else "-",
        "marker": _MARKERS[position % len(_MARKERS)],
    }


def _draw(axes: Axes, name: str, group: Sequence[Record], axis: Axis, quantity: str, style: Mapping[str, Any]) -> None:
    values = np.array([[point[quantity] for point in record.points] for record in group])
    x = np.median([[point[ALONG[axis]] for point in record.points] for record in group], axis=0)
    every = (_MARKERS.index(style["marker"]), max(1, len(x) // 8))
    axes.plot(x, np.median(values, axis=0), label=name, markevery=every, markersize=4, **style)
    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, linewidth=0)


def _mark(axes: Axes, group: Sequence[Record], axis: Axis, target: float, colour: str) -> None:
    """A ring where half of the runs have reached the target."""
    reached = median_interval(first_reaching(record, target)[ALONG[axis]] for record in group).median
    if np.isfinite(reached):
        axes.plot(reached, target, "o", color=colour, markersize=10, fillstyle="none", markeredgewidth=1.5)


def _common_end(groups: Mapping[str, Sequence[Record]]) -> float | None:
    """Three times the median length of a run, or the longest: so that one slow method does not squeeze the others."""
    ends = [record.points[-1]["training_seconds"] for group in groups.values() for record in group]
    return min(max(ends), 3 * float(np.median(ends))) if ends else None


def draw_growth(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], stem: Path, title: str
) -> list[Path]:
    """Write ``stem`` as PNG and SVG: seconds against width, both logarithmic.

    Args:
        panels: by title, the widths and the seconds of each line by name.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        figure.suptitle(title, fontsize=10, wrap=True)
        shared = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, lines) in zip(shared, panels.items(), strict=True):
            for colour, marker, (label, (widths, seconds)) in zip(_COLOURS, _MARKERS, lines.items(), strict=False):
                axes.plot(widths, seconds, label=label, color=colour, marker=marker, markersize=4)
            axes.set(title=name, xlabel="width", ylabel="seconds", xscale="log", yscale="log")
            widths = sorted({width for along, _ in lines.values() for width in along})
            axes.set_xticks(widths, [f"{width:g}" for width in widths])
            axes.set_xticks([], minor=True)
            axes.legend(frameon=False)
        return _save(figure, stem)


def _save(figure: Figure, stem: Path) -> list[Path]:
    """As PNG and SVG, the same bytes for the same picture."""
    paths = []
    for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
        paths.append(stem.with_name(f"{stem.name}.{suffix}"))
        figure.savefig(paths[-1], dpi=130, metadata=metadata)
    return paths
