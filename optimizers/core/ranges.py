"""Ranges of hyper-parameters. Optimizers and solvers state their own, which are checked at construction."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import contains
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Range:
    """Which values fit, and how a message describes them: ``momentum must be in [0, 1), got 2``."""

    fits: Callable[[Any], bool]
    text: str


def one_of(values: Iterable[str]) -> Range:
    """One of some names."""
    names = tuple(values)
    return Range(partial(contains, names), f"one of {', '.join(names)}")


# functions with a name, so that an optimizer can be pickled
def _is_rate(value: Any) -> bool:
    return isinstance(value, Tensor) or 0 < value < math.inf


def _is_between_0_and_1(value: Any) -> bool:
    return 0 < value < 1


def _is_below_1(value: Any) -> bool:
    return 0 <= value < 1


def _is_gamma(value: Any) -> bool:
    return -1 <= value <= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _is_none_or(fits: Callable[[Any], bool], value: Any) -> bool:
    return value is None or fits(value)


def or_none(given: Range) -> Range:
    """The range, or None."""
    return Range(partial(_is_none_or, given.fits), f"{given.text}, or None")


POSITIVE = Range(_is_rate, "above 0")
BETWEEN_0_AND_1 = Range(_is_between_0_and_1, "in (0, 1)")
BELOW_1 = Range(_is_below_1, "in [0, 1)")
GAMMA = Range(_is_gamma, "in [-1, 0]")  # outside, negative curvature would stay, or become more than it is
COUNT = Range(_is_count, "a whole number of 1 or more")


def check(ranges: Mapping[str, Range], values: Mapping[str, Any]) -> None:
    """Refuse a value that is out of its range; names without a range pass.

    Raises:
        ValueError: with the name, the range and the value.
    """
    for name in ranges.keys() & values.keys():
        try:
            good = ranges[name].fits(values[name])
        except TypeError:  # not even a number
            good = False
        if not good:
            raise ValueError(f"{name} must be {ranges[name].text}, got {values[name]!r}")
