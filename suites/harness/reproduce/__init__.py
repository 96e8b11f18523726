"""Published results, computed again: by name, at three scales, beside the published values.

A module of this folder is found by itself. Its ``RESULTS`` has its results by name, as
:class:`suites.harness.reproduce.request.Result` defines them.
"""

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suites.harness.reproduce.request import Result


def results() -> "dict[str, Result]":
    """All results by name."""
    modules = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {name: result for module in modules for name, result in getattr(module, "RESULTS", {}).items()}


def done_in(name: str, folder: Path) -> list[Path]:
    """The folders below ``folder`` that hold the result called ``name``."""
    pages = (f"*/{name}/table.md", f"*/{name}-*/table.md", f"*/*/*/{name}.md")
    return sorted(page.parent for pattern in pages for page in folder.glob(pattern))
