"""Pictures from records: loss and accuracy against epochs and against seconds, with bands over the seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.harness.records import Record
from suites.harness.report import by_optimizer

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
    """Write ``epochs`` and ``seconds``, each as PNG and SVG: train loss and test accuracy of the finished runs.

    A line is the median over the seeds and its band reaches from the lowest to the highest seed; against seconds, a
    point stands at the median time of its epoch.
    """
    finished = [record for record in records if record.status == "finished"]
    paths = []
    with mpl.rc_context(_STYLE):
        for axis, label in (("epochs", "epochs"), ("seconds", "seconds of training")):
            figure = Figure(figsize=(11, 4.2), layout="constrained")
            figure.suptitle(title, fontsize=10)
            loss, accuracy = figure.subplots(1, 2)
            for position, (name, group) in enumerate(by_optimizer(finished).items()):
                _draw(loss, position, name, group, axis, "train_loss")
                _draw(accuracy, position, name, group, axis, "test_accuracy")
            loss.set(xlabel=label, ylabel="train loss", yscale="log")
            accuracy.set(xlabel=label, ylabel="test accuracy")
            accuracy.axhline(target, color="grey", linewidth=1, linestyle=":")
            accuracy.annotate(
                f"target {target:g}", (1, target), xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=8
            )
            if axis == "seconds":
                for axes in (loss, accuracy):
                    axes.set_xlim(0, _common_end(finished))
            figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
            for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
                paths.append(folder / f"{axis}.{suffix}")
                figure.savefig(paths[-1], dpi=130, metadata=metadata)
    return paths


def _draw(axes: Axes, position: int, name: str, group: Sequence[Record], axis: str, quantity: str) -> None:
    values = np.array([[point[quantity] for point in record.points] for record in group])
    along = np.array(
        [[point["epoch" if axis == "epochs" else "training_seconds"] for point in r.points] for r in group]
    )
    x = np.median(along, axis=0)
    colour = _COLOURS[position % len(_COLOURS)]
    axes.plot(
        x,
        np.median(values, axis=0),
        label=name,
        color=colour,
        linestyle=_LINES[position % len(_LINES)],
        marker=_MARKERS[position % len(_MARKERS)],
        markevery=(position, max(1, len(x) // 8)),
        markersize=4,
    )
    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def _common_end(records: Sequence[Record]) -> float | None:
    """Three times the median length of a run, or the longest: so that one slow method does not squeeze the others."""
    ends = [record.points[-1]["training_seconds"] for record in records]
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
        paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
        for path, metadata in zip(paths, ({}, {"Date": None}), strict=True):
            figure.savefig(path, dpi=130, metadata=metadata)
    return paths
