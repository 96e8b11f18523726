"""Tables. Cells carry numbers with their intervals; a writer turns them into text at the very end."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

UNKNOWN, NEVER = "-", "not reached"
_TEX_HEAD = 8  # letters in a line of a title
_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
}


@dataclass(frozen=True)
class Cell:
    """A number, the ends of its interval if it has one, and a few words behind it. Infinity reads ``not reached``."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


Content: TypeAlias = Cell | float | str | None  # None: unknown
Form: TypeAlias = str | Callable[[float], str]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    key: its name in code. title: its name for readers.
    form: the format of numbers, such as ``.3g``, or a function. Counts (int) are written as they are.
    narrow: whether to show an interval whose ends read the same as the number.
    brief: its title in a paper; empty if a paper leaves it out.
    """

    key: str
    title: str
    form: Form = ".4g"
    narrow: bool = False
    brief: str = ""

    def text(self, content: Content) -> str:
        """A cell as readers see it: ``140 [94, 163]``, ``not reached (1 of 5)``, ``-``."""
        return " ".join(filter(None, self.parts(content)))

    def parts(self, content: Content) -> tuple[str, str]:
        """The number or the text, and what stands behind a number: its interval, a few words."""
        if content is None or isinstance(content, str | int):
            return UNKNOWN if content is None else str(content), ""
        cell = content if isinstance(content, Cell) else Cell(content)
        if not math.isfinite(cell.value):
            return NEVER, cell.note
        shown, behind = self._number(cell.value), [cell.note] if cell.note else []
        if cell.low is not None and cell.high is not None:
            ends = [self._number(end) for end in (cell.low, cell.high)]
            if self.narrow or ends != [shown, shown]:
                behind.insert(0, f"[{', '.join(ends)}]")
        return shown, " ".join(behind)

    def _number(self, value: float) -> str:
        return self.form(value) if callable(self.form) else format(value, self.form)


@dataclass(frozen=True)
class Table:
    """Rows by column key. A key that a row lacks is unknown.

    name: the stem of its files. note: a sentence below it. folded: whether the page shows it only on request.
    """

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Content]]
    name: str = ""
    title: str = ""
    note: str = ""
    folded: bool = True

    @property
    def titles(self) -> list[str]:
        return [column.title for column in self.columns]

    @property
    def texts(self) -> list[list[str]]:
        return [[text for text, _ in row] for row in self.cells]

    @property
    def cells(self) -> list[list[tuple[str, float | None]]]:
        """The text of each cell, and the number that sorts it, if it has one."""
        return [[(c.text(row.get(c.key)), _number(row.get(c.key))) for c in self.columns] for row in self.rows]

    def column(self, key: str) -> list[Content]:
        """The cells of a column."""
        return [row.get(key) for row in self.rows]

    def without(self, key: str) -> "Table":
        """The table without a column."""
        return replace(self, columns=[column for column in self.columns if column.key != key])

    def with_column(self, column: Column, cells: Iterable[Content], first: bool = False) -> "Table":
        """The table with another column, last or first."""
        rows = [{**row, column.key: cell} for row, cell in zip(self.rows, cells, strict=True)]
        return replace(self, rows=rows, columns=[column, *self.columns] if first else [*self.columns, column])


def table_of(
    rows: Sequence[Mapping[str, Content]], forms: Mapping[str, Form] | Form = ".4g", narrow: bool = False
) -> Table:
    """A table whose column titles are the keys, in order of first appearance.

    Args:
        forms: one for all columns, or some by key, see :class:`Column`.
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    form_of = (lambda key: forms.get(key, ".4g")) if isinstance(forms, Mapping) else (lambda key: forms)
    return Table([Column(key, key, form_of(key), narrow) for key in keys], rows)


def slug(name: str) -> str:
    """A name as part of a file name or an id."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "-", name).strip("-.") or "table"


def markdown(table: Table) -> str:
    """The table as Markdown. Characters of Markdown and HTML in names are escaped."""
    titles, *rows = ([_literal(text) for text in row] for row in (table.titles, *table.texts))
    return _tabulate(titles, rows, "github")


def latex(table: Table) -> str:
    """The table as LaTeX: the columns with a brief title, or all if there are none.

    Numbers are aligned at their points; their intervals stand behind in a smaller size.
    """
    briefly = [replace(column, title=column.brief) for column in table.columns if column.brief]
    known = [c for c in briefly or table.columns if any(cell is not None for cell in table.column(c.key))]
    columns = [_tex_column(column, table.column(column.key)) for column in known]
    layout = "".join(align for align, _ in columns)
    top, *body = (" & ".join(row) + r" \\" for row in zip(*(texts for _, texts in columns), strict=True))
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"{\footnotesize\setlength{\tabcolsep}{4pt}%",
            rf"\begin{{tabular}}{{{layout}}}",
            *(r"\toprule", top, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}}",
        ]
    )


def plain(table: Table) -> str:
    """The table for a terminal."""
    return _tabulate(table.titles, table.texts, "simple")


def fitted(table: Table) -> str:
    """The table for a terminal of 80 columns. Titles and cells of the first column may take several lines."""
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, (title, *cells) in enumerate(zip(table.titles, *table.texts, strict=True)):
        longest = max([*map(len, cells), *(len(word) + 1 for word in re.split(r"[ -]", title)), min(len(title), 10)])
        drawn.add_column(Text("\n".join(wrap(title, longest))), no_wrap=place > 0, overflow="fold")
    for row in table.texts:
        drawn.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=80).print(drawn)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def comma_separated(table: Table) -> str:
    """The table as CSV: numbers with all digits, and columns for the ends of intervals."""
    has_ends = {
        column.key: any(isinstance(cell, Cell) and cell.low is not None for cell in table.column(column.key))
        for column in table.columns
    }
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = ("", " low", " high")
    writer.writerow([c.title + end for c in table.columns for end in (ends if has_ends[c.key] else ends[:1])])
    for row in table.rows:
        numbers = [(_ends(row.get(column.key)), has_ends[column.key]) for column in table.columns]
        writer.writerow([end for of_cell, wide in numbers for end in (of_cell if wide else of_cell[:1])])
    return file.getvalue()


WRITERS: Mapping[str, Callable[[Table], str]] = {  # by the suffix of a file
    "md": lambda table: markdown(table) + "\n",
    "tex": lambda table: latex(table) + "\n",
    "csv": comma_separated,
}


def _ends(content: Content) -> tuple[Content, Content, Content]:
    return (content.value, content.low, content.high) if isinstance(content, Cell) else (content, None, None)


def _number(content: Content) -> float | None:
    value = content.value if isinstance(content, Cell) else content
    return value if isinstance(value, int | float) else None


def _tex_column(column: Column, cells: Sequence[Content]) -> tuple[str, list[str]]:
    """Alignment, title and cells of a column. Numbers take two, the second for the interval and words."""
    parts = [column.parts(cell) for cell in cells]
    if not any(isinstance(cell, Cell | int | float) for cell in cells):
        return "l", [
            _tex(column.title),
            *("{}" + _tex(shown) for shown, _ in parts),
        ]  # a [ after the end of a line would be read as an option
    places = max(len(_decimals(shown)) for shown, _ in parts)
    numbers = (_tex_number(shown, behind, places) for shown, behind in parts)
    head = r"\\{}".join(map(_tex, wrap(column.title, _TEX_HEAD, break_long_words=False)))
    return "r@{}l", [rf"\multicolumn{{2}}{{c}}{{\shortstack{{{head}}}}}", *numbers]


def _tex_number(shown: str, behind: str, places: int) -> str:
    """A number with room for a number of decimal places, and the text behind it."""
    number = _tex(shown)
    if shown == NEVER:
        number = r"$\infty$"
    elif missing := places - len(_decimals(shown)) if shown[-1].isdigit() else 0:
        number += rf"\phantom{{{'' if '.' in shown else '.'}{'0' * missing}}}"
    behind = _tex(behind).replace("inf", r"$\infty$")
    return rf"{number} & {{\scriptsize\ {behind}}}" if behind else f"{number} &"


def _decimals(shown: str) -> str:
    found = re.fullmatch(r"-?\d+\.(\d+)", shown)
    return found[1] if found else ""


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)


def _literal(text: str) -> str:
    """Text for a cell of Markdown: no tags, and nothing that ends the cell."""
    return ", ".join(" ".join(line.split()) for line in text.splitlines()).replace("|", "\\|").replace("<", "&lt;")


def _tabulate(titles: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    return tabulate(rows, headers=titles, tablefmt=style, disable_numparse=True)
