"""Where hyper-parameters are searched. Optimizers state their own spans, as they do their ranges."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Span:
    """From ``low`` to ``high``, on a logarithmic scale or a linear one.

    Raises:
        ValueError: if ``low`` is not below ``high``, or not above 0 on a logarithmic scale.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"a span must go from a lower number to a higher one, got {self.low:g} to {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a span on a logarithmic scale must begin above 0, got {self.low:g}")

    def at(self, share: float) -> float:
        """The value at a share of the way: 0 is ``low``, 1 is ``high``."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share

    def share(self, value: float) -> float:
        """The inverse of :meth:`at`. On a logarithmic scale the value must be above 0."""
        if self.scale == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}:{self.scale}"
