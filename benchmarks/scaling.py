"""Curvature and solver alone against the width of a layer, and the exponents of their time and bytes."""

from collections.abc import Sequence
from math import log
from statistics import linear_regression

from benchmarks import common

PARTS = {  # a part is a phase of an optimizer whose other phases are cheap
    "curvature fisher": ("fisher+ea_cg", "curvature"),
    "curvature gauss_newton": ("gauss_newton+ea_cg", "curvature"),
    "curvature pch1": ("pch1+ea_cg", "curvature"),
    "solver ea_cg": ("fisher+ea_cg", "solve"),
    "solver kfi factor": ("fisher+kfi[inverse=factor]", "solve"),
    "solver kfi gram": ("fisher+kfi[inverse=gram]", "solve"),
    "solver kfi rank_one": ("fisher+kfi[inverse=rank_one]", "solve"),
}
WIDTHS = (32, 128, 512, 1024, 2048, 4096)
_QUICK = 3  # widths of a quick run: wider ones take minutes
_SECONDS = 10.0  # for a width
_FITTED = 512  # the least width for the fit: below, calling torch takes much of a step


class Width(common.Shared):
    """A layer of n inputs and n outputs, between two small ones; batch 100."""

    params = (tuple(PARTS), WIDTHS)
    param_names = ("part", "width")

    def setup(self, part: str, width: int) -> None:
        self.figures = common.shared("widths", [str(width), part], _measure_all)

    @common.measured_in("seconds")
    def track_seconds(self, part: str, width: int) -> common.Figures:
        return common.samples(self.figures["seconds"])

    @common.measured_in("bytes")
    def track_bytes(self, part: str, width: int) -> int:
        return self.figures["bytes"]


class Growth(common.Shared):
    """k of width^k, fitted to the wider half of the widths."""

    params = (tuple(PARTS),)
    param_names = ("part",)

    def setup(self, part: str) -> None:
        self.figures = common.shared("widths", ["growth", part], _measure_all)

    @common.measured_in("exponent")
    def track_time_exponent(self, part: str) -> float:
        return self.figures["time"]

    @common.measured_in("exponent")
    def track_bytes_exponent(self, part: str) -> float:
        return self.figures["bytes"]


def exponent(widths: Sequence[int], values: Sequence[float]) -> float:
    """The exponent k of growth like width^k: the slope of a line through the logarithms."""
    return linear_regression([log(width) for width in widths], [log(value) for value in values]).slope


def _measure_all() -> common.Figures:
    widths = WIDTHS[:_QUICK] if common.quick() else WIDTHS
    by_width = {str(width): _measure(width) for width in widths}
    return by_width if common.quick() else {**by_width, "growth": _growth(by_width)}


def _measure(width: int) -> common.Figures:
    phase_bytes = common.harness("measure.live_bytes", "phase_bytes")
    measured_on = common.task(network=(64, width, width, 10))
    usable, figures = common.choices(sorted({spec for spec, _ in PARTS.values()}), measured_on)
    seconds = common.phase_seconds(measured_on, usable, 0.3 if common.quick() else _SECONDS)
    for choice in usable:
        peaks = phase_bytes(measured_on.step(choice, seed=0))
        own = seconds[choice.spec]
        figures[choice.spec] = {phase: {"seconds": own[phase], "bytes": peaks[phase]} for phase in own}
    # an optimizer may have several parts
    return {part: figures[spec].get(phase, figures[spec]) for part, (spec, phase) in PARTS.items()}


def _growth(by_width: common.Figures) -> common.Figures:
    growth, fitted = {}, [width for width in WIDTHS if width >= _FITTED]
    for part in PARTS:
        figures = [by_width[str(width)][part] for width in fitted]
        if all("seconds" in figure for figure in figures):
            growth[part] = {
                "time": exponent(fitted, [min(figure["seconds"]) for figure in figures]),
                "bytes": exponent(fitted, [figure["bytes"] for figure in figures]),
            }
    return growth
