"""The results of the paper that can be computed again."""

from pathlib import Path

from suites.harness.reproduce.figures import FIGURES
from suites.harness.reproduce.request import Result
from suites.harness.reproduce.table1 import TABLE1
from suites.harness.reproduce.tables2to5 import TABLES

RESULTS: dict[str, Result] = {TABLE1.name: TABLE1, **TABLES, **FIGURES}


def done_in(name: str, folder: Path) -> list[Path]:
    """The folders below a folder of results that hold a result."""
    pages = (f"*/{name}/table.md", f"*/{name}-*/table.md", f"*/*/*/{name}.md")
    return sorted(page.parent for pattern in pages for page in folder.glob(pattern))
