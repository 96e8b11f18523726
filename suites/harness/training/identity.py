"""The identity of a run: a hash of all that decides its numbers.

That is its configuration and seed, the source of the algorithms and of what feeds them, and the environment: the same
code gives other bits with another number of threads or another BLAS.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[3]
_FEEDERS = (
    *("measure/step.py", "problems/*.py"),
    *("training/captured_step.py", "training/experiment.py", "training/runner.py"),
)
_ENVIRONMENT = ("python", "torch", "blas", "platform", "cpu", "threads")
_GPU = ("name", "memory_bytes", "cuda", "tf32")


def run_id(header: Mapping[str, Any], *more: Path) -> str:
    """Twelve hexadecimal digits for the header of a record; ``more``: sources that decide as well."""
    environment = header["environment"]
    decides = {
        "experiment": header["experiment"],
        "source": header["source"],
        "problem": (header.get("problem") or {}).get("source"),
        "algorithms": _algorithms(more),
        "environment": {name: environment[name] for name in _ENVIRONMENT},
        "gpu": environment["gpu"] and {name: environment["gpu"][name] for name in _GPU},
    }
    return _digest(json.dumps(decides, sort_keys=True).encode())


@cache
def _algorithms(more: Sequence[Path]) -> str:
    files = [*sorted((_ROOT / "optimizers").rglob("*.py")), *more]
    files += [file for name in _FEEDERS for file in sorted((_ROOT / "suites" / "harness").glob(name))]
    return _digest(b"\0".join(path.read_bytes() for path in files))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:12]
