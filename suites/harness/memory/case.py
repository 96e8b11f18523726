"""Memory of several optimizers on one network: predicted bytes beside measured peaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from suites.harness.data.problem import find
from suites.harness.measure.environment import describe
from suites.harness.memory.footprint import predict
from suites.harness.memory.formulas import USUAL, Kind
from suites.harness.memory.ledger import Footprint
from suites.harness.memory.peak import SMALLEST_BYTES, check, measure
from suites.harness.records.beside import PeakMeasured
from suites.harness.records.facts import Environment
from suites.harness.records.record import write_atomically
from suites.harness.show.captions import machine
from suites.harness.show.table import Cell, Content, Table, markdown, table_of
from suites.harness.units import shown_bytes

SCHEMA = 1
DEFAULT_OPTIMIZERS = (
    "sgd",
    "ea_cg",
    "kfac[inverse=gram]",
    "kfra[inverse=gram]",
    "kfra[inverse=exact]",
    "kfra[inverse=rank_one]",
    "kfra[inverse=factor]",
    "kfra[inverse=auto]",
)
_COLUMNS = {  # of the table, with the parts of a footprint in each
    "parameters, state": ("parameters", "state"),
    "activations": ("activations",),
    "gradients": ("gradients",),
    "curvature": ("curvature",),
    "inverse": ("inverse",),
    "directions": ("directions",),
    "workspace": ("workspace", "library"),
}


@dataclass(frozen=True)
class Case:
    """The measurement that all rows share. The default is the paper's ImageNet-10 network on its GTX 1080 Ti."""

    network: tuple[int, ...] = find("imagenet10").network
    batch_size: int = 100
    dtype: str = "float32"
    device: str = "auto"
    budget_bytes: int | None = 11 * 10**9
    kind: Kind = USUAL

    def checked(self, specs: Sequence[str]) -> "Case":
        """The case with its device resolved.

        Raises:
            ValueError: one line, if one of the optimizers cannot be measured.
        """
        shared = self.network, self.batch_size, self.dtype, self.device, self.kind
        devices = [check(spec, *shared) for spec in specs]
        return replace(self, device=devices[0])


@dataclass(frozen=True)
class Row:
    """One optimizer: the measurement, and the predicted footprint, None if there is no formula."""

    optimizer: str
    predicted: Footprint | None
    measured: PeakMeasured

    @property
    def too_small(self) -> bool:
        """Whether a step is so small that the process's own allocations hide it."""
        return self.predicted is not None and self.predicted.peak_bytes < SMALLEST_BYTES

    @property
    def ratio(self) -> float | None:
        """Measured over predicted bytes; None for steps that did not finish or are too small to compare."""
        finished = self.measured.status == "finished" and not self.too_small
        if self.predicted is None or self.measured.peak_bytes is None or not finished:
            return None
        return self.measured.peak_bytes / self.predicted.peak_bytes

    @property
    def outcome(self) -> str:
        """What happened, in words."""
        measured = self.measured
        if measured.status == "out of memory":
            asked = "" if measured.asked_bytes is None else f"asked for {shown_bytes(measured.asked_bytes)}, "
            budget = "the device" if measured.budget_bytes is None else shown_bytes(measured.budget_bytes)
            return f"out of memory: {asked}budget {budget}"
        if measured.status == "failed":
            return f"failed: {measured.reason}"
        if measured.fell_back:
            return "factor did not fit: fell back to rank_one"
        return "fits, too small to compare" if self.too_small else "fits"


def compare_memory(
    case: Case, specs: Sequence[str], output: Path, on_row: Callable[[Row], None] = lambda row: None
) -> list[Row]:
    """Predict and measure one optimizer after the other.

    After each, ``memory.json`` and ``table.md`` in ``output`` are written again with the rows so far.
    """
    rows: list[Row] = []
    environment = describe(case.device)
    for spec in specs:
        shared = (spec, case.network, case.batch_size, case.dtype, case.device)
        measured = measure(*shared, budget_bytes=case.budget_bytes, kind=case.kind)
        predicted = predict(*shared, budget_bytes=measured.budget_bytes, kind=case.kind)
        rows.append(Row(spec, predicted, measured))
        whole = {"schema": SCHEMA, "case": case, "environment": environment, "rows": list(map(_record, rows))}
        write_atomically(output / "memory.json", msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
        write_atomically(output / "table.md", f"{markdown(table(rows))}\n\n{caption(case, environment)}\n")
        on_row(rows[-1])
    return rows


def table(rows: Sequence[Row]) -> Table:
    """One row for each optimizer; the parts are those of the predicted peak."""
    sizes = dict.fromkeys((*_COLUMNS, "predicted peak", "measured peak"), shown_bytes)
    return table_of([_shown(row) for row in rows], {**sizes, "measured / predicted": ".2f", "step": "{:.3g} s".format})


def caption(case: Case, environment: Environment) -> str:
    """One paragraph about the table: the network, the machine, and how memory was measured."""
    on_cuda = case.device == "cuda"
    budget = "" if case.budget_bytes is None else f", budget {shown_bytes(case.budget_bytes)}"
    measured = "the allocator's peak" if on_cuda else "the peak of resident memory above imports and a small step"
    return (
        f"Network {'-'.join(map(str, case.network))}, {case.kind}, batch {case.batch_size}, {case.dtype}{budget}; "
        f"{machine(environment)}. Parts are predicted by formula and add up to the predicted peak; measured is "
        f"{measured}, in a fresh process of three steps on noise; step is the median of the last two. Below "
        f"{shown_bytes(SMALLEST_BYTES)} the process's own allocations weigh as much as a step: take the prediction, "
        "which counts tensors."
    )


def _shown(row: Row) -> dict[str, Content]:
    parts = row.predicted.parts if row.predicted else {}
    sizes = {column: sum(parts.get(name, 0) for name in names) if parts else None for column, names in _COLUMNS.items()}
    sizes |= {"predicted peak": row.predicted and row.predicted.peak_bytes, "measured peak": row.measured.peak_bytes}
    return {
        "optimizer": row.optimizer,
        **{title: None if size is None else Cell(size) for title, size in sizes.items()},
        "measured / predicted": row.ratio,
        "step": row.measured.step_seconds,
        "what happened": row.outcome,
    }


def _record(row: Row) -> dict[str, object]:
    predicted = row.predicted
    return {
        "optimizer": row.optimizer,
        "predicted": predicted and {"peak_bytes": predicted.peak_bytes, "phases": predicted.phases},
        "measured": row.measured,
        "measured_over_predicted": row.ratio,
        "too_small": row.too_small,
        "outcome": row.outcome,
    }
