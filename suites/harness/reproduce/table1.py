"""Table 1: the paper's statements about each method, beside the growth measured here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from suites.harness.analysis.statistics import growth_exponent
from suites.harness.reproduce import table1_terms as terms
from suites.harness.reproduce.request import Reproduction, Request
from suites.harness.reproduce.table1_growth import GROWTH_SCALES, GrowthRecord, GrowthScale, Sweep, measure_growth
from suites.harness.reproduce.table1_terms import Term
from suites.harness.show.captions import machine
from suites.harness.show.pictures import draw_growth
from suites.harness.show.table import Cell, Content, Table, markdown, table_of
from suites.harness.training.experiment import resolve_device
from suites.harness.tuning.progress import progress_bars

FITTED = 5  # the largest sizes: for small ones, calling torch takes much of a step


@dataclass(frozen=True)
class Kind:
    """The rows of the paper's table that are words: criteria, curvature and solver of a method."""

    criterion: str
    curvature: str
    scheme: str


@dataclass(frozen=True)
class Row:
    """A method of the table. ``by``: whether its terms are the paper's or those of the code here."""

    method: str
    by: str
    kind: Kind
    curvature: Term
    solve: Term
    space: Term


_KFAC, _KFRA = Kind("Non-Convex", "Fisher", "KFI"), Kind("Convex", "Gauss-Newton", "KFI")
_EA_CG = Kind("Non-Convex", "PCH", "EA-CG")

ROWS = (
    Row("KFAC", "paper", _KFAC, terms.FISHER, terms.KFI, terms.KFI_SPACE),
    Row("KFAC", "here", _KFAC, terms.FISHER_HERE, terms.KFI_HERE, terms.KFI_SPACE_HERE),
    Row("KFAC exact", "here", _KFAC, terms.NOTHING, terms.KFI_EXACT, terms.SPACE_HERE),
    Row("KFAC rank_one", "here", _KFAC, terms.FISHER_HERE, terms.KFI_RANK_ONE, terms.SPACE_HERE),
    Row("KFRA", "paper", _KFRA, terms.PROPAGATED, terms.KFI, terms.KFI_SPACE),
    Row("KFRA", "here", _KFRA, terms.PROPAGATED_HERE, terms.KFI_HERE, terms.KFI_SPACE_HERE),
    Row("EA-CG", "paper", _EA_CG, terms.PROPAGATED, terms.EA_CG, terms.EA_CG_SPACE),
    Row("EA-CG", "here", _EA_CG, terms.PROPAGATED_HERE, terms.EA_CG_HERE, terms.SPACE_HERE),
)
# the lines of the picture, each with the method in which it is measured
_LINES = {
    "curvature": {"Fisher": "KFAC", "Gauss-Newton": "KFRA", "PCH-1": "EA-CG"},
    "solve": {"KFI": "KFAC", "KFI exact": "KFAC exact", "KFI rank_one": "KFAC rank_one", "EA-CG": "EA-CG"},
}


_PARTS = {"curvature": ("operations", "seconds"), "solve": ("operations", "seconds"), "space": ("bytes",)}


@dataclass(frozen=True)
class Table1:
    """The table. Its costs depend on sizes alone."""

    name: str = "table1"
    shows: str = "time and space of KFAC, KFRA and EA-CG: the stated terms beside the growth measured"

    @property
    def costs(self) -> Mapping[str, str]:
        return {"smoke": "seconds", "cpu": "3 minutes on an idle core", "paper": "an hour (estimate)"}

    def prepare(self, request: Request) -> Callable[[], Reproduction]:
        """See :class:`suites.harness.reproduce.request.Result`."""
        scale, device = request.scaled(self.name, GROWTH_SCALES), resolve_device(request.device)
        return lambda: _reproduce(scale, device, request)


RESULTS = {Table1.name: Table1()}


def _reproduce(scale: GrowthScale, device: str, request: Request) -> Reproduction:
    """Writes growth.jsonl, growth.png, growth.svg, table.md, table.csv and config.toml."""
    with progress_bars() as progress:
        bar = progress.add_task(f"sizes: table1, {scale.name}", total=len(list(scale)))
        path = request.output / "growth.jsonl"
        record = measure_growth(scale, device, path, lambda done: progress.update(bar, completed=done), request.resume)
    if not record.completed:
        return Reproduction([record])
    table = exponents(scale, record)
    text = summary(scale, table, record)
    request.write("table1", scale, text, {"table": table}, request.output / "table.md", device=device)
    title = f"Seconds of a step by width (scale {scale.name}; {machine(record.environment)})"
    draw_growth(_lines(scale, record), request.output / "growth", title)
    return Reproduction([record], text)


def exponents(scale: GrowthScale, record: GrowthRecord) -> Table:
    """Exponents, one a row: of the stated term, or of the measurement with its interval.

    Each is fitted to the largest :data:`FITTED` sizes. Seconds are the shortest of all rounds: other work on the
    machine makes steps slower, never faster.
    """
    rows: list[dict[str, Content]] = []
    for sweep in scale.sweeps:
        sizes, cases = sweep.values[-FITTED:], sweep.cases[-FITTED:]
        for row, (part, quantities) in product(ROWS, _PARTS.items()):
            if row.method not in sweep.methods:
                continue
            term: Term = getattr(row, part)
            if term is terms.NOTHING:
                continue
            stated = growth_exponent(sizes, [term.of(case) for case in cases]).value
            for quantity in quantities:
                values = _values(record, sweep, row.method, part, quantity)[-FITTED:]
                measured, low, high = growth_exponent(sizes, values)
                row_of = {"over": sweep.over, "method": row.method, "terms": row.by, "part": part, "term": term.text}
                row_of |= {"stated": stated, "quantity": quantity, "measured": measured, "low": low, "high": high}
                rows.append(row_of)
    return table_of(rows)


def _values(record: GrowthRecord, sweep: Sweep, method: str, part: str, quantity: str) -> list[float]:
    """One number for each size."""
    costs = [point.figures[method] for point in record.points if point.over == sweep.over]
    if part == "space":
        return [max(one.bytes.values()) for one in costs]
    if quantity == "seconds":
        return [min(one.seconds[part]) for one in costs]
    return [one.operations[part] for one in costs]


def _lines(scale: GrowthScale, record: GrowthRecord) -> dict[str, dict[str, tuple[tuple[int, ...], list[float]]]]:
    """Widths and seconds, by phase and name."""
    (sweep,) = (sweep for sweep in scale.sweeps if sweep.over == "width")
    return {
        phase: {name: (sweep.values, _values(record, sweep, key, phase, "seconds")) for name, key in lines.items()}
        for phase, lines in _LINES.items()
    }


def summary(scale: GrowthScale, table: Table, record: GrowthRecord) -> str:
    """The stated terms, then a table of exponents for each size that is varied, with title and caption."""
    title = f"Table 1: stated and measured growth of time and space (scale {scale.name}: digits, networks chosen here)"
    parts = [f"# {title}", markdown(_stated())]
    for sweep in scale.sweeps:
        sizes = ", ".join(map(str, sweep.values[-FITTED:]))
        fixed = ", ".join(f"{name} {size}" for name, size in vars(sweep.base).items() if name != sweep.over)
        own = markdown(_by_method([row for row in table.rows if row["over"] == sweep.over]))
        parts.append(f"Exponents over {sweep.over} ({sizes}; {fixed}):\n\n{own}")
    return "\n\n".join([*parts, _caption(record)]) + "\n"


def _stated() -> Table:
    """The stated terms of each method, in the order of the paper's table."""
    return table_of(
        [
            {
                "method": row.method,
                "terms": row.by,
                "criterion function": row.kind.criterion,
                "curvature information": row.kind.curvature,
                "time of curvature": row.curvature.text,
                "solving scheme": row.kind.scheme,
                "space": row.space.text,
                "time to solve": row.solve.text,
            }
            for row in ROWS
        ]
    )


def _by_method(exponents: Sequence[Mapping[str, Any]]) -> Table:
    """Methods as rows: for each part the stated exponent and the measured ones with their intervals."""
    rows: dict[tuple[str, str], dict[str, Content]] = {}
    for one in exponents:
        cells = rows.setdefault((one["method"], one["terms"]), {"method": one["method"], "terms": one["terms"]})
        cells[f"{one['part']}: stated"] = one["stated"]
        cells[f"{one['part']}: {one['quantity']}"] = Cell(one["measured"], one["low"], one["high"])
    return table_of(list(rows.values()), lambda value: f"{value:.2f}".replace("-0.00", "0.00"), narrow=True)


def _caption(record: GrowthRecord) -> str:
    return (
        f"k of value ~ size^k, fitted to {FITTED} sizes, with the 95 % interval of a slope through one value a size: "
        "that of counts, which are exact, is as wide as they are no power law. Stated: the slope of the term over the "
        "same sizes; the paper's terms have no coefficients, those of the code here are multiply-adds; s(n), of a "
        "symmetric product, goes from n^2 to n^2/2, and c(n), of the factorizations of G, is n^3/3, or n^3/6 where one "
        "is enough. Operations: counted. Seconds: the shortest of all rounds, methods "
        "in turn within each; of small sizes they are those of calling torch. Space: the most bytes alive at once in "
        "curvature and solve, with activations and gradients, without parameters. KFAC and KFRA have inverse=factor, "
        "the paper's form, with E[h h^T] formed in the solve; inverse=exact gives the same direction. EA-CG is PCH-1 "
        "with tolerance 0, so that all iterations are done; in Krylov coordinates they go without the products with "
        "n_{t-1} of the paper's term, and those of the biases are among them. Network 64-width-...-width-10, depth: "
        f"hidden layers. {machine(record.environment)}."
    )
