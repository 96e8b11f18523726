"""The space of a search: the options of a method that are varied, their spans, and the points to try."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from scipy.stats.qmc import Halton

from optimizers.core import Span
from suites.harness.measure.contract import Entry
from suites.harness.names import unknown
from suites.harness.training.catalog import Choice

Space: TypeAlias = Mapping[str, Span]  # of the options that are varied
Options: TypeAlias = dict[str, float]

EDGE = 0.1  # the share of a span at each end that counts as its edge
EXTENSION = 1 / 3  # the share of a span, and of the trials, that an extension adds
_DECADES = 2  # below and above the default learning rate of a class that declares no space
_WRITTEN = re.compile(r"\s*(?P<name>\w+)\s*=(?P<low>[^:]+):(?P<high>[^:]+):(?P<scale>log|linear)\s*")


def parse(text: str) -> tuple[str, Span]:
    """An option and its span, as on the command line: ``lr=1e-4:1:log``.

    Raises:
        ValueError: one line, if it cannot be read.
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ValueError(f"space {text!r}: expected option=low:high:log or option=low:high:linear, as in lr=1e-4:1:log")
    try:
        scale = "log" if written["scale"] == "log" else "linear"
        return written["name"], Span(float(written["low"]), float(written["high"]), scale)
    except ValueError as error:
        raise ValueError(f"space {text!r}: {error}") from None


def declared(entry: Entry) -> dict[str, Span]:
    """The space that an optimizer declares; if it has none, four decades around its default learning rate."""
    made = entry.make.args[0] if isinstance(entry.make, partial) else entry.make  # a class or a factory
    default = entry.options.get("lr")
    around = {"lr": Span(default / 10**_DECADES, default * 10**_DECADES)} if isinstance(default, float | int) else {}
    return {name: span for name, span in getattr(made, "space", around).items() if name in entry.options}


def space_of(choice: Choice, given: Space) -> Space:
    """The space of a method: the user's or the declared one, without the options that its specification writes.

    Raises:
        ValueError: one line, if nothing is left.
    """
    known = {name: span for name, span in given.items() if name in choice.entry.options}
    space = {n: span for n, span in {**declared(choice.entry), **known}.items() if n not in choice.options}
    if not space:
        raise ValueError(f"{choice.spec}: nothing to search; give a space such as --space lr=1e-4:1:log")
    return space


def check_names(given: Space, choices: Sequence[Choice]) -> None:
    """Refuse a span of an option that no method has."""
    options = dict.fromkeys(name for choice in choices for name in choice.entry.options)
    for name in given:
        if name not in options:
            raise ValueError(f"space: {unknown('option', name, options)}")


def trials(space: Space, defaults: Mapping[str, object], count: int, fits: Callable[[Options], bool]) -> list[Options]:
    """The points to try: the defaults, if they lie in the space, then points of a Halton sequence, which fill it
    evenly.

    Values have two digits. If few values fit, there are fewer points than ``count``.

    Args:
        fits: whether the optimizer takes the options.
    """
    found: list[Options] = []
    for options in [_inside(space, defaults), *_points(space, defaults, 10 * count)]:
        if options and options not in found and len(found) < count and fits(options):
            found.append(options)
    return found


def _inside(space: Space, defaults: Mapping[str, object]) -> Options:
    """The defaults; empty if one lies outside the space."""
    found: Options = {name: value for name in space if isinstance(value := defaults[name], float | int)}
    return found if all(name in found and span.low <= found[name] <= span.high for name, span in space.items()) else {}


def _points(space: Space, defaults: Mapping[str, object], count: int) -> Iterator[Options]:
    """Points of a Halton sequence, scrambled with a fixed seed."""
    for shares in Halton(len(space), rng=0).random(count).tolist():
        yield at(space, defaults, shares, digits=2)


def at(space: Space, defaults: Mapping[str, object], shares: Sequence[float], digits: int) -> Options:
    """The point of a space at a share of each span. An option with an integer default gets an integer.

    If its span begins below 1, it is a rate that is written without a point, as ``lr=1`` of torch's LBFGS.
    """
    values = {name: span.at(share) for (name, span), share in zip(space.items(), shares, strict=True)}
    whole = {name for name, span in space.items() if isinstance(defaults[name], int) and span.low >= 1}
    return {n: round(value) if n in whole else float(f"{value:.{digits}g}") for n, value in values.items()}


def beyond(span: Span, value: float) -> Span | None:
    """The extension of a span at the edge where a value lies; None if it lies at no edge."""
    share = span.share(value)
    if share < EDGE:
        return Span(span.at(-EXTENSION), span.low, span.scale)
    return Span(span.high, span.at(1 + EXTENSION), span.scale) if share > 1 - EDGE else None


def joined(span: Span, more: Span) -> Span:
    """A span with its extension."""
    return Span(min(span.low, more.low), max(span.high, more.high), span.scale)
