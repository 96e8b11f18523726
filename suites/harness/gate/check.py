"""The gate: times, bytes and convergence against a baseline that is kept in the repository.

The baseline is a JSON file: the numbers of ``gate.cases`` by name, each the median of several processes, the
environment that they hold for, and where they come from. A case has regressed if it exceeds its number times the bound
of its kind in each of three tries, every try in a fresh process of one thread.
"""

import json
import math
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from suites.harness.gate.cases import cases
from suites.harness.measure.environment import describe
from suites.harness.records.record import finite, write_atomically
from suites.harness.show.progress import progress_bars

SCHEMA = 1
TRIES = 3
PROCESSES = 5
BOUNDS = {
    "step": 1.15,
    "solve": 1.15,
    "curvature": 1.15,
    "peak_bytes": 1.0,
    "kept_bytes": 1.0,
    "train_loss": 1.01,
    "epochs": 1.0,
}
"""By kind, which is a name up to its slash: how many times its baseline a number may be."""

Measure = Callable[[Mapping[str, float]], dict[str, float]]


@dataclass(frozen=True)
class Baseline:
    """Numbers by name, and the environment and the provenance that they were measured in."""

    values: dict[str, float]
    environment: dict[str, str | None]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One case: what it was in the baseline, what it is at its best, and the most that it may be.

    ``was`` is None for a case that is new, ``now`` for one that there is no more.
    """

    name: str
    was: float | None
    now: float | None

    @property
    def bound(self) -> float:
        return BOUNDS[kind(self.name)]

    @property
    def growth(self) -> float:
        """How many times its baseline it is; infinite for a case that is gone."""
        if self.was is None or self.now == self.was:
            return 1.0
        return math.inf if self.now is None or self.was == 0 else self.now / self.was

    @property
    def regressed(self) -> bool:
        return self.growth > self.bound


def kind(name: str) -> str:
    """What sort of number a case is."""
    return name.partition("/")[0]


def comparable_environment(device: str) -> dict[str, str | None]:
    """All that must be the same for two measurements to be comparable; threads are not in it: there is always one."""
    found = describe(device)
    gpu = found["gpu"] or {}
    return {
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "blas": found["blas"],
        "platform": found["platform"],
        "cpu": found["cpu"],
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "gpu": gpu.get("name"),
        "cuda": gpu.get("cuda"),
    }


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']}, expected {SCHEMA}")
        values = {name: math.inf if value is None else float(value) for name, value in found["values"].items()}
        return Baseline(values, found["environment"], found["provenance"])
    except FileNotFoundError:
        raise ValueError(f"no baseline at {path}: kronbench gate --update makes one") from None
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"baseline {path}: {error!r}: kronbench gate --update makes another") from error


def differences(baseline: Baseline, device: str) -> list[str]:
    """What is unlike between the environment of a baseline and the one at hand, a line each."""
    here = comparable_environment(device)
    names = {**baseline.environment, **here}
    return [
        f"{name}: baseline {baseline.environment.get(name)}, here {here.get(name)}"
        for name in names
        if baseline.environment.get(name) != here.get(name)
    ]


def baselines_of(path: Path) -> list[Path]:
    """The file itself, or those of a folder.

    Raises:
        ValueError: if the folder has none.
    """
    found = [path] if path.suffix == ".json" else sorted(path.glob("*.json"))
    if not found:
        raise ValueError(f"no baseline in {path}: kronbench gate --update makes one")
    return found


def file_of_environment(device: str) -> str:
    """What the baseline of the environment at hand is called in a folder, as ``amd-epyc-avx2.json``."""
    here = comparable_environment(device)
    parts = [here["gpu"]] if here["gpu"] else [here["cpu"], here["instruction set"]]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-") + ".json"


def in_a_fresh_process(device: str) -> Measure:
    """Measures cases, given with a limit for each, in a process of one thread that does nothing else.

    Raises:
        ValueError: if a case could not be measured.
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
                    values[name] = process.submit(measure_here, name, device, limit).result()
                except Exception as error:
                    raise ValueError(f"{name} could not be measured: {type(error).__name__}: {error}") from error
                progress.advance(bar)
        return values

    return measure


def measure_here(name: str, device: str, limit: float) -> float:
    """The number of one case, infinite where it is none."""
    value = cases(device)[name](limit)
    return value if math.isfinite(value) else math.inf


def check(baseline: Baseline, present: Sequence[str], measure: Measure) -> list[Finding]:
    """Hold the cases that there are against the baseline, and find those that are new or gone.

    What exceeds its bound is measured again; it has regressed if no try is within.
    """
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


def update(path: Path, present: Sequence[str], device: str, measure: Measure) -> None:
    """Write a baseline: the median of several processes, where it was measured, on which commit, and when."""
    environment, where = comparable_environment(device), describe(device)
    processes = [measure(dict.fromkeys(present, 0.0)) for _ in range(PROCESSES)]
    values = {name: statistics.median(process[name] for process in processes) for name in present}
    provenance = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processes": PROCESSES,
        "environment": where,
    }
    content = {"schema": SCHEMA, "environment": environment, "provenance": provenance, "values": values}
    write_atomically(path, json.dumps(finite(content), indent=1) + "\n")


def select(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that are, or match, one of the patterns, as ``solve/*``; all where there is no pattern."""
    return [
        name
        for name in names
        if not patterns or any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
    ]
