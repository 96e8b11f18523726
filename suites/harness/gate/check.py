"""The check of the gate: a case that exceeds its bound in three tries has regressed. Each try is a fresh process."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from multiprocessing import get_context
from types import MappingProxyType

import torch
from rich.console import Console

from suites.harness.gate.baseline import BOUNDS, Baseline, comparable_environment, kind
from suites.harness.gate.cases import cases
from suites.harness.measure.environment import describe
from suites.harness.tuning.progress import progress_bars

TRIES = 3
PROCESSES = 5

Measure = Callable[[Mapping[str, float]], dict[str, float]]
"""Measures cases, given their limits by name; returns numbers by name."""


@dataclass(frozen=True)
class Finding:
    """One case: its number in the baseline, the best of the tries, and its bound.

    ``was`` is None if the baseline lacks the case, ``now`` if the case is gone.
    """

    name: str
    was: float | None
    now: float | None

    @property
    def bound(self) -> float:
        return BOUNDS[kind(self.name)]

    @property
    def growth(self) -> float:
        """The number over that of the baseline; infinite for a case that is gone."""
        if self.was is None or self.now == self.was:
            return 1.0
        return math.inf if self.now is None or self.was == 0 else self.now / self.was

    @property
    def regressed(self) -> bool:
        return self.growth > self.bound


def in_a_fresh_process(device: str, specs: Sequence[str] = ()) -> Measure:
    """A measure that starts one process of one thread and takes all cases there.

    Args:
        specs: the optimizers of the cases; by default those of the package.

    Raises:
        ValueError: from the measure, if a case cannot be measured.
    """

    def measure(limits: Mapping[str, float]) -> dict[str, float]:
        values = {}
        with (
            progress_bars(Console(stderr=True)) as progress,
            ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as process,
        ):
            bar = progress.add_task("", total=len(limits))
            for name, limit in limits.items():
                progress.update(bar, description=name.ljust(32))
                try:
                    values[name] = process.submit(measure_here, name, device, limit, specs).result()
                except Exception as error:
                    raise ValueError(f"{name} could not be measured: {type(error).__name__}: {error}") from error
                progress.advance(bar)
        return values

    return measure


def measure_here(name: str, device: str, limit: float, specs: Sequence[str] = ()) -> float:
    """The number of one case; infinite for a training that diverged."""
    torch.manual_seed(0)  # for optimizers that draw random numbers
    value = cases(device, specs)[name](limit)
    return value if math.isfinite(value) else math.inf


def check(baseline: Baseline, present: Sequence[str], measure: Measure) -> list[Finding]:
    """A finding for each case that is present or in the baseline. Those in both are measured."""
    limits = {name: baseline.values[name] * BOUNDS[kind(name)] for name in present if name in baseline.values}
    best: dict[str, float] = {}
    above = limits
    for _ in range(TRIES):
        if above:
            for name, value in measure(above).items():
                best[name] = min(value, best.get(name, math.inf))
            above = {name: limit for name, limit in above.items() if best[name] > limit}
    names = dict.fromkeys([*present, *baseline.values])
    return [Finding(name, baseline.values.get(name), best.get(name)) for name in names]


def measure_baseline(
    present: Sequence[str], device: str, measure: Measure, packages: Mapping[str, str] = MappingProxyType({})
) -> Baseline:
    """A new baseline of this environment: the median of several processes for each case.

    Args:
        packages: versions of the packages that the optimizers come from.
    """
    environment, where = comparable_environment(device), describe(device, packages)
    processes = [measure(dict.fromkeys(present, 0.0)) for _ in range(PROCESSES)] if present else []
    values = {name: statistics.median(process[name] for process in processes) for name in present}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Baseline(values, environment, {"date": date, "processes": PROCESSES, "environment": asdict(where)})


def updated(baseline: Baseline, measured: Baseline, replaced: Iterable[str]) -> Baseline:
    """The baseline with the ``replaced`` cases from ``measured``, and without those that ``measured`` lacks."""
    gone = set(replaced)
    values = {name: value for name, value in baseline.values.items() if name not in gone} | measured.values
    changes = [*baseline.provenance.get("updates", []), {**measured.provenance, "cases": sorted(measured.values)}]
    return Baseline(values, baseline.environment, {**baseline.provenance, "updates": changes})


def select(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that equal or match one of the patterns, as ``solve/*``; all names if there is no pattern."""
    return [
        name
        for name in names
        if not patterns or any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
    ]
