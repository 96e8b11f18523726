"""The identity of a run: a hash of all that decides its numbers.

These are its configuration and seed, the source of the algorithms and of what feeds them, and the environment: the same
code gives other bits with another number of threads or another BLAS.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from suites.harness.data.problem import PROBLEMS, Problem
from suites.harness.records.facts import Header

_ROOT = Path(__file__).resolve().parents[3]
_FEEDERS = (
    *("measure/contract.py", "measure/step.py", "training/schedule.py", "data/*.py"),
    *("training/evaluation.py", "training/experiment.py", "training/runner.py", "training/turns.py"),
)
_ENVIRONMENT = ("python", "torch", "blas", "platform", "cpu", "threads")
_GPU = ("name", "memory_bytes", "cuda", "tf32")


def run_id(header: Header[Any], *more: Path) -> str:
    """Twelve hexadecimal digits for the header of a record; ``more``: further files that decide."""
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


def code_id(*more: Path) -> str:
    """Twelve hexadecimal digits for the source of the algorithms and of what feeds them."""
    return _algorithms(more)


def files_of(problem: Problem) -> list[Path]:
    """The files of ``suites/problems`` that a problem is made of: its own, and those that it imports.

    A user's own file is not among them: its text is in the header.
    """
    folder = Path(import_module(PROBLEMS).__path__[0])
    own = [] if problem.source else [folder / f"{problem.name.replace('-', '_')}.py"]
    text = problem.source or own[0].read_text(encoding="utf-8")
    return [*own, *sorted(set(_imported(text, folder)))]


def _imported(text: str, folder: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                if name.startswith(f"{PROBLEMS}."):
                    file = folder / f"{name.split('.')[2]}.py"
                    yield file
                    yield from _imported(file.read_text(encoding="utf-8"), folder)


@cache
def _algorithms(more: Sequence[Path]) -> str:
    files = [*sorted((_ROOT / "optimizers").rglob("*.py")), *more]
    files += [file for name in _FEEDERS for file in sorted((_ROOT / "suites" / "harness").glob(name))]
    return _digest(b"\0".join(path.read_bytes() for path in files))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:12]
