"""Pictures as files: curves of training with bands over the seeds, costs of the target, growth."""

import math
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import LogLocator, NullLocator

from suites.harness.analysis.curves import AXES, Curve, common_end, curve, points_of
from suites.harness.analysis.metrics import METRICS, Metric, judged_by
from suites.harness.analysis.statistics import Interval, median_interval
from suites.harness.names import shown_name
from suites.harness.records.groups import by_optimizer, to_reach
from suites.harness.records.record import Record, write_atomically
from suites.harness.show.captions import shared
from suites.harness.show.looks import COLOURS, DARK, Look, by_label, looks

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
# without a date, so that the same records give the same bytes; this PNG is a tenth larger and takes half the time
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}},
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}


def draw_convergence(records: Sequence[Record], folder: Path, title: str, target: float) -> list[Path]:
    """Write ``epochs`` and ``seconds``, each as PNG and SVG, see :func:`draw_curves`."""
    lines = by_label(by_optimizer(records))
    return [path for axis in ("epochs", "seconds") for path in draw_curves(lines, [axis], folder / axis, title, target)]


def draw_curves(
    groups: Mapping[str, Sequence[Record]],
    axes: Sequence[str],
    path: Path,
    title: str,
    target: float,
    suffixes: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Write train loss and the metric that runs are judged by, in each format, a row of panels for each axis.

    A line is the median over the seeds, its band the range of the seeds. Against seconds, a point stands at the median
    time of its epoch. A ring marks where the median run reaches the target.

    Args:
        groups: records by the label of their line, each of one optimizer, which decides its look.
        axes: of :data:`suites.harness.analysis.curves.AXES`.
        path: without a suffix.
    """
    finished = {name: [record for record in group if record.completed] for name, group in groups.items()}
    finished = {name: group for name, group in finished.items() if group}
    judged = judged_by([record for group in groups.values() for record in group])
    curves = {
        name: [curve(list(map(points_of, group)), attrgetter(of)) for of in ("train_loss", judged.key)]
        for name, group in finished.items()
    }
    spec_of = {name: group[0].experiment.optimizer for name, group in finished.items()}
    of_spec = looks(spec_of.values())
    with mpl.rc_context(_STYLE):
        lines, columns = wrap(title, 150), max(1, min(5, 130 // (max(map(len, finished), default=0) + 8)))
        rows = math.ceil(len(finished) / columns)
        figure = Figure(figsize=(11, 0.4 + 3.8 * len(axes) + 0.2 * rows), layout="constrained")
        figure.suptitle(_plain("\n".join(lines)), fontsize=10)
        for axis, panels in zip(axes, figure.subplots(len(axes), 2, squeeze=False), strict=True):
            for place, (name, group) in enumerate(finished.items()):
                look = of_spec[spec_of[name]]
                for panel, drawn in zip(panels, curves[name], strict=True):
                    if axis in drawn.along:
                        _draw(panel, name, drawn, axis, look, place)
                if axis in curves[name][1].along:
                    _mark(panels[1], group, axis, target, COLOURS[look.colour])
            _label(panels, axis, judged, target)
            if axis == "seconds":
                _limit(panels, [record for group in finished.values() for record in group])
            for panel in panels:
                if panel.get_yscale() == "log":
                    _plain_ticks(panel.yaxis)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        return _save(figure, path, suffixes)


def draw_headline(
    costs: Mapping[str, Mapping[str, Interval]],
    names: Mapping[str, str],
    path: Path,
    title: str,
    suffixes: Sequence[str] = tuple(_FORMATS),
) -> list[Path]:
    """Write the costs of every method with their intervals in each format, and once more as a dark SVG (``-dark``).

    An infinite median is an arrow at the right edge.

    Args:
        costs: by cost and method.
        names: of methods, for readers.
    """
    paths = []
    for ending, style in (("", {}), ("-dark", _DARK)):
        with mpl.rc_context({**_STYLE, **style}):
            methods = max(map(len, costs.values()))
            figure = Figure(figsize=(5.2, 1 + len(costs) * (0.8 + 0.24 * methods)), layout="constrained")
            figure.suptitle(_plain(title), fontsize=11)
            panels = figure.subplots(len(costs), 1, squeeze=False)[:, 0]
            for axes, (label, intervals) in zip(panels, costs.items(), strict=True):
                _draw_intervals(axes, label, intervals, names, dark=bool(style))
            wanted = [suffix for suffix in suffixes if suffix == "svg"] if ending else suffixes
            paths += _save(figure, path.with_name(path.name + ending), wanted)
    return paths


def draw_growth(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], path: Path, title: str
) -> list[Path]:
    """Write seconds against width, both logarithmic, as PNG and SVG.

    Args:
        panels: by title; of each line, by name, the widths and the seconds.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        figure.suptitle(title, fontsize=10, wrap=True)
        shared = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, lines) in zip(shared, panels.items(), strict=True):
            for label, look in looks(lines).items():
                widths, seconds = lines[label]
                marker, colour = look.marker.matplotlib, COLOURS[look.colour]
                axes.plot(widths, seconds, label=shown_name(label), color=colour, marker=marker, markersize=5)
            axes.set(title=name, xlabel="width", ylabel="seconds", xscale="log", yscale="log")
            widths = sorted({width for along, _ in lines.values() for width in along})
            axes.set_xticks(widths, [f"{width:g}" for width in widths])
            axes.set_xticks([], minor=True)
            axes.legend(frameon=False)
        return _save(figure, path, ("png", "svg"))


def _draw(axes: Axes, name: str, drawn: Curve, axis: str, look: Look, place: int) -> None:
    """A line with its band. The markers of different lines stand at different points."""
    x, colour = drawn.along[axis], COLOURS[look.colour]
    step = max(1, len(x) // 8)
    axes.plot(
        *(x, drawn.middle),
        label=_plain(name),
        color=colour,
        linestyle=look.dash.matplotlib,
        marker=look.marker.matplotlib,
        markevery=(place % step, step),
        markersize=5,
        markerfacecolor="none" if look.hollow else colour,
    )
    band = np.stack([np.concatenate([x, x[::-1]]), np.concatenate([drawn.low, drawn.high[::-1]])], axis=1)
    axes.add_artist(Polygon(band, color=colour, alpha=0.15, linewidth=0))
    axes.update_datalim(band)


def _mark(axes: Axes, group: Sequence[Record], axis: str, target: float, colour: str) -> None:
    """A ring where half of the runs have reached the target."""
    reached = [to_reach(record, target, AXES[axis][0]) for record in group]
    middle = median_interval([value for value in reached if value is not None]).median if None not in reached else None
    if middle is not None and np.isfinite(middle):
        axes.plot(middle, target, "o", color=colour, markersize=10, fillstyle="none", markeredgewidth=1.5)


def _label(panels: Sequence[Axes], axis: str, judged: Metric, target: float) -> None:
    for panel, metric in zip(panels, (METRICS["train_loss"], judged), strict=True):
        scale = "linear" if metric.larger_is_better else "log"
        panel.set(xlabel=AXES[axis][1], ylabel=metric.axis, yscale=scale)
    above = "top" if judged.larger_is_better else "bottom"  # the side from which curves come
    panels[1].axhline(target, color="grey", linewidth=1, linestyle=":")
    panels[1].annotate(
        f"target {target:g}", (1, target), xycoords=("axes fraction", "data"), ha="right", va=above, fontsize=8
    )


def _limit(panels: Iterable[Axes], records: Sequence[Record]) -> None:
    """End the axis of seconds, and say which runs have none."""
    most = max((record.header.at_a_time for record in records), default=1)
    for panel in panels:
        if any(record.header.alone for record in records):
            panel.set_xlim(0, common_end(records))
        if most > 1:
            panel.annotate(shared(most), (0.5, 1), xycoords="axes fraction", ha="center", va="bottom", fontsize=8)


def _plain_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis; 1, 2 and 5 of each decade if there are few."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _draw_intervals(
    axes: Axes, label: str, intervals: Mapping[str, Interval], names: Mapping[str, str], dark: bool
) -> None:
    reached = [value for interval in intervals.values() for value in interval if value < float("inf")]
    edge = 1.15 * max(reached, default=1.0)
    of_method = looks(intervals)
    for position, (spec, (median, low, high)) in enumerate(intervals.items()):
        look = of_method[spec]
        colour = (DARK if dark else COLOURS)[look.colour]
        axes.plot([min(low, edge), min(high, edge)], [position, position], color=colour, linewidth=2.5)
        marker = look.marker.matplotlib if median < edge else ">"
        axes.plot([min(median, edge)], [position], color=colour, marker=marker, markersize=8, clip_on=False)
    axes.set_yticks(range(len(intervals)), [_plain(names[spec]) for spec in intervals])
    axes.set(xlim=(0, edge), ylim=(len(intervals) - 0.4, -0.6), xlabel=label)


def _plain(text: str) -> str:
    """Text in which matplotlib does not read a dollar sign as mathematics."""
    return text.replace("$", r"\$")


def _save(figure: Figure, path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Write the figure in each format, each file whole or not at all."""
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in suffixes]
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)  # the layout is done, and need not be repeated for each format
    for suffix, file in zip(suffixes, paths, strict=True):
        picture = BytesIO()
        figure.savefig(picture, format=suffix, dpi=130, **_FORMATS[suffix])
        write_atomically(file, picture.getvalue())
    return paths
