"""The baseline of the gate: the numbers of one machine and one version of torch, in a JSON file of the repository."""

import json
import math
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from suites.harness.measure.environment import describe
from suites.harness.records.record import write_atomically

SCHEMA = 1
BOUNDS = {
    "step": 1.15,
    "solve": 1.15,
    "curvature": 1.15,
    "peak_bytes": 1.0,
    "kept_bytes": 1.0,
    "train_loss": 1.01,
    "epochs": 1.0,
}
"""By kind of case: a number may be this many times its baseline."""


@dataclass(frozen=True)
class Baseline:
    """Numbers by name, their environment, and when and where they were measured."""

    values: dict[str, float]
    environment: dict[str, str | None]
    provenance: dict[str, Any]

    def differences(self, device: str) -> list[str]:
        """One line for each difference between the present environment and that of the baseline."""
        here = comparable_environment(device)
        return [
            f"{name}: baseline {self.environment.get(name)}, here {here.get(name)}"
            for name in {**self.environment, **here}
            if self.environment.get(name) != here.get(name)
        ]

    def write(self, path: Path) -> None:
        """Write it as JSON: the whole file or nothing.

        Raises:
            ValueError: if a number is of no known kind, or not finite and above 0.
        """
        _checked(self.values)
        write_atomically(path, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")


def kind(name: str) -> str:
    """The kind of a case: its name up to the slash."""
    return name.partition("/")[0]


def comparable_environment(device: str) -> dict[str, str | None]:
    """The facts that must be equal in comparable measurements. Threads are left out: there is always one."""
    found = describe(device)
    return {
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "blas": found.blas,
        "platform": found.platform,
        "cpu": found.cpu,
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "gpu": found.gpu and found.gpu.name,
        "cuda": found.gpu and found.gpu.cuda,
    }


def file_of_environment(path: Path, device: str) -> Path:
    """``path`` if it is a JSON file; if it is a folder, this environment's file in it, as ``amd-epyc-avx2.json``."""
    if path.suffix == ".json":
        return path
    here = comparable_environment(device)
    parts = [here["gpu"]] if here["gpu"] else [here["cpu"], here["instruction set"]]
    return path / (re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-") + ".json")


def read_baselines(path: Path) -> dict[Path, Baseline]:
    """The baseline of a JSON file, or all baselines of a folder; empty if there is none.

    Raises:
        ValueError: one line, if one cannot be read or has an invalid number.
    """
    files = [path] if path.suffix == ".json" else sorted(path.glob("*.json"))
    return {file: _read(file) for file in files if file.exists()}


def _read(path: Path) -> Baseline:
    try:
        found = json.loads(path.read_bytes())
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r}, expected {SCHEMA}")
        return Baseline(_checked(found["values"]), dict(found["environment"]), dict(found["provenance"]))
    except KeyError as error:
        reason = f"{error} is missing"
    except (OSError, TypeError, AttributeError, ValueError) as error:
        reason = str(error)
    raise ValueError(f"baseline {path}: {reason}; kronbench gate --update writes it anew")


def _checked(values: Mapping[str, Any]) -> dict[str, float]:
    """The values. All must be of a known kind, finite and above 0; bytes may be 0."""
    for name, value in values.items():
        if kind(name) not in BOUNDS:
            raise ValueError(f"case {name!r} is of no known kind: expected {', '.join(f'{k}/...' for k in BOUNDS)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < 0 or (value == 0 and not kind(name).endswith("bytes")):
            raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return dict(values)
