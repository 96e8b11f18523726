"""A part of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suites.harness.records.record import Record
from suites.harness.show.figures import Figure
from suites.harness.show.table import Table


@dataclass(frozen=True)
class Section:
    """Figures and tables. ``files``: what they come from; ``axes``: the reader chooses what figures are against;
    ``folded``: figures that are opened one by one."""

    name: str
    title: str
    text: str = ""
    command: str = ""
    files: Sequence[Path] = ()
    axes: bool = False
    methods: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    runs: Sequence[Record] = ()
    pictures: str = ""
    folded: bool = False
