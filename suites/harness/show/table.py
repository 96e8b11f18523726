"""A table as it is shown on the page, sorted, copied, and written to files."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from suites.harness.records.record import write_atomically
from suites.harness.show.tables import latex, markdown
from suites.harness.units import parse_bytes

_INTERVAL = re.compile(r"(\S+) \[(\S+), (\S+)\]")
_NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|inf)(?=$|[\s,:=])")


@dataclass(frozen=True)
class Table:
    """Texts in rows. ``name``: the stem of its files; ``note``: a sentence below it; ``folded``: shown when
    asked for."""

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    folded: bool = True

    @property
    def forms(self) -> dict[str, str]:
        """By the suffix of a file, what is written to it."""
        return {"md": markdown(self.frame) + "\n", "tex": latex(self.frame) + "\n", "csv": _csv(self.frame)}

    @property
    def rows(self) -> list[list[tuple[str, float | None]]]:
        """Each cell with the number that it is sorted by, where it is one."""
        return [[(str(cell), sort_key(str(cell))) for cell in row] for row in self.frame.itertuples(index=False)]

    def write(self, folder: Path) -> None:
        for suffix, text in self.forms.items():
            write_atomically(folder / f"{self.name}.{suffix}", text)


def sort_key(text: str) -> float | None:
    """What a cell is sorted by: its first number, in bytes where it has their unit; infinity where nothing was reached.
    None for any other text."""
    if text.startswith(("not reached", "never")):
        return math.inf
    found = _NUMBER.match(text)
    if not found:
        return None
    try:
        return float(parse_bytes(text))
    except ValueError:
        return float(found[0].replace(",", ""))


def _csv(frame: pd.DataFrame) -> str:
    """With the ends of intervals in columns of their own."""
    columns: dict[str, list[str]] = {}
    for name in frame:
        cells = [str(cell) for cell in frame[name]]
        matches = [_INTERVAL.fullmatch(cell) for cell in cells]
        columns[str(name)] = [match[1] if match else cell for match, cell in zip(matches, cells, strict=True)]
        if any(matches):
            for end, group in (("low", 2), ("high", 3)):
                columns[f"{name} {end}"] = [match[group] if match else "" for match in matches]
    return pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")


def slug(name: str) -> str:
    """A name as part of a file name or an id."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "-", name).strip("-.") or "table"


def interval(values: Iterable[float], form: str = ".3g") -> str:
    """A number with the ends of its interval."""
    middle, low, high = (format(value, form) for value in values)
    return f"{middle} [{low}, {high}]"


def figure(value: float | None) -> str:
    """Four digits; a dash for None."""
    return "-" if value is None else f"{value:.4g}"
