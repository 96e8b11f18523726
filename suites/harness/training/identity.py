"""The identity of a run: a hash of all that decides its numbers.

These are its configuration and seed, the source of the algorithms and of what feeds them, and the environment: the same
code gives other bits with another number of threads or another BLAS.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from suites.harness.records.facts import Header

_ROOT = Path(__file__).resolve().parents[3]
_FEEDERS = (
    *("measure/contract.py", "measure/step.py", "training/schedule.py", "data/*.py", "../problems/*.py"),
    *("training/evaluation.py", "training/experiment.py", "training/runner.py", "training/turns.py"),
)
_ENVIRONMENT = ("python", "torch", "blas", "platform", "cpu", "threads")
_GPU = ("name", "memory_bytes", "cuda", "tf32")


def run_id(header: Header[Any], *more: Path) -> str:
    """Twelve hexadecimal digits for the header of a record; ``more``: further sources that decide."""
    environment, gpu = header.environment, header.environment.gpu
    decides = {
        "experiment": header.experiment,
        "source": header.source,
        "problem": header.problem and header.problem.source,
        "algorithms": _algorithms(more),
        "environment": {name: getattr(environment, name) for name in _ENVIRONMENT},
        **({"packages": environment.packages} if environment.packages else {}),
        "gpu": gpu and {name: getattr(gpu, name) for name in _GPU},
    }
    return _digest(msgspec.json.encode(decides, order="sorted"))


def code_id() -> str:
    """Twelve hexadecimal digits for the source of the algorithms and of what feeds them."""
    return _algorithms(())


@cache
def _algorithms(more: Sequence[Path]) -> str:
    files = [*sorted((_ROOT / "optimizers").rglob("*.py")), *more]
    files += [file for name in _FEEDERS for file in sorted((_ROOT / "suites" / "harness").glob(name))]
    return _digest(b"\0".join(path.read_bytes() for path in files))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:12]
