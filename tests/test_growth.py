"""Table 1: exponents with intervals, operations that grow as stated, and the command line."""

import re
from csv import DictReader
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from suites.harness.analysis.statistics import growth_exponent
from suites.harness.measure.environment import describe
from suites.harness.records.facts import End, Header
from suites.harness.records.journal import Journal
from suites.harness.reproduce import table1_growth as growth
from suites.harness.reproduce import table1_terms as terms
from suites.harness.reproduce.table1 import FITTED, ROWS, exponents, summary
from suites.harness.reproduce.table1_growth import (
    GROWTH_SCALES,
    SPECS,
    Case,
    Costs,
    GrowthExperiment,
    GrowthScale,
    Measured,
    Sweep,
    count_and_weigh,
    read_growth,
)
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task


def test_a_power_law_has_its_exponent():
    assert growth_exponent([8, 16, 64], [5 * 8**3, 5 * 16**3, 5 * 64**3]) == pytest.approx((3, 3, 3))
    assert growth_exponent([8, 16, 64], [7, 7, 7]) == (0, 0, 0)


def test_the_interval_is_that_of_the_textbook():
    """Slope 2 with one point off by d in the logarithm, of x = -1, 0, 1: the residuals are d (-1, 2, -1) / 3, and the
    standard error of the slope is |d| / sqrt(3) over sqrt(2)."""
    off = 0.3
    sizes = np.exp([-1.0, 0.0, 1.0])
    value, low, high = growth_exponent(sizes, np.exp([-2.0, off, 2.0]))
    assert value == pytest.approx(2)
    assert (high - low) / 2 == pytest.approx(12.7062047 * off * np.sqrt(2 / 3) / np.sqrt(2))


@pytest.mark.parametrize("sizes", [(256, 384, 512, 768, 1024), (10, 20, 40)])
def test_intervals_of_exponents_cover(sizes):
    """95 % of 2000 simulations of noise in each size; 3 standard errors of that are 1.5 %."""
    rng = np.random.default_rng(0)
    values = np.power(sizes, 2.5) * np.exp(rng.normal(0, 0.2, (2000, len(sizes))))
    covered = np.mean([low <= 2.5 <= high for _, low, high in (growth_exponent(sizes, row) for row in values)])
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("sizes", "values"), [((1, 2), (1, 2)), ((1, 2, 3), (1, 2, 0)), ((0, 2, 3), (1, 2, 3))])
def test_what_has_no_exponent_is_refused(sizes, values):
    with pytest.raises(ValueError, match="growth needs 3 sizes or more and numbers above 0"):
        growth_exponent(sizes, values)


class Small(Case):
    network = (5, 4, 3)


@pytest.mark.parametrize(
    ("term", "batch", "value"),
    [
        ("FISHER", 7, 7 * (16 + 9)),
        ("PROPAGATED", 7, 16 * 3),
        ("KFI", 7, (64 + 125 + 100 + 80) + (27 + 64 + 48 + 36)),
        ("KFI_SPACE", 7, (25 + 16) + (16 + 9)),
        ("EA_CG", 7, 6 * ((16 + 40) + (9 + 24))),
        ("EA_CG_SPACE", 7, (5 + 16) + (4 + 9)),
        ("FISHER_HERE", 7, 7 * (16 + 9)),
        ("PROPAGATED_HERE", 7, 16 * (3 + 7) + 36),
        ("KFI_HERE", 7, (64 / 3 + 125 / 6 + 100 + 80 + 7 * 45) + (9 + 64 / 6 + 48 + 36 + 7 * 28)),
        # all in the space of the layer; E[h h^T] of the first in that of the batch; all but the last G
        ("KFI_EXACT", 7, (64 / 3 + 125 / 6 + 100 + 80 + 7 * 61) + (9 + 64 / 6 + 48 + 36 + 7 * 37)),
        ("KFI_EXACT", 4, (64 / 3 + 64 / 6 + 64 + 64 + 80 + 64) + (9 + 64 / 6 + 48 + 36 + 4 * 37)),
        ("KFI_EXACT", 3, (27 / 2 + 45 + 36 + 9 * 9) + (9 + 27 / 6 + 27 + 27 + 36 + 27)),
        ("KFI_RANK_ONE", 7, (64 / 3 + 7 * 25) + (9 + 7 * 16)),
        ("EA_CG_HERE", 7, (12 * 16 + 49 * 9) + (12 * 9 + 49 * 7)),
        ("EA_CG_HERE", 20, (12 * 16 + 20 * 20) + (12 * 9 + 20 * 12)),  # the gradient is cheaper than Gram matrices
        ("SPACE_HERE", 7, (16 + 28) + (9 + 21)),
        ("KFI_SPACE_HERE", 7, (25 + 16 + 20 + 28) + (16 + 9 + 12 + 21)),
    ],
)
def test_a_term_has_the_number_that_it_states(term, batch, value):
    """By hand, for layers 5 -> 4 -> 3 and 6 iterations."""
    assert getattr(terms, term).of(Small(batch=batch, iterations=6)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("network", "value"),
    [
        ((3, 8), (8 * 25 + 125 / 3 + 25 * 3) + (5 * (9 + 24) + 27 / 6 + 9 * 8) + 5 * 24),  # G in that of the batch
        ((5, 8), (8 * 25 + 125 / 3 + 25 * 5) + (5 * (25 + 40) + 125 / 6 + 25 * 8) + 5 * 40),
        ((3, 5), (5 * 25 + 125 / 3 + 25 * 3) + (5 * (9 + 15) + 27 / 6 + 9 * 5)),  # none: as wide as the batch
        ((6, 7), 25 * (6 + 7) + (125 / 3 + 125 / 6) + (2 * 125 / 3 + 125) + 25 * 7),  # both
    ],
)
def test_kfi_takes_each_side_in_the_smaller_space(network, value):
    """By hand, for one layer that widens and a batch of 5."""
    case = type("One", (Case,), {"network": network})(batch=5)
    assert terms.KFI_EXACT.of(case) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("batch", "inverses"), [(128, 2 * 128**3 / 3 + 128**3 + 128**2 * 250), (129, 129**2 * 450)])
def test_kfi_forms_inverses_in_a_batch_of_up_to_128(batch, inverses):
    """By hand, for a layer 200 -> 250: two inverses, their product, and its product with delta. A larger batch has two
    systems instead, with as many right sides as the layer has outputs, and as its smaller side has."""
    case = type("One", (Case,), {"network": (200, 250)})(batch=batch)
    stated = terms.symmetric(batch) * 450 + terms.cholesky(batch) + batch**3 / 6 + inverses
    assert terms.KFI_EXACT.of(case) == pytest.approx(stated, rel=1e-12)


def test_a_symmetric_product_in_strips_is_about_half():
    assert [terms.symmetric(n) for n in (10, 128, 130, 256)] == [100, 128**2, 65 * 258, 128 * 384]


def _counted(method, case):
    task = Task.load(Settings(network=case.network, batch_size=case.batch, device="cpu"))
    step = task.step(choose(SPECS[method].format(iterations=case.iterations)), seed=0)
    operations, _ = count_and_weigh(step, case)
    return operations


HERE = [row for row in ROWS if row.by == "here"]
WIDE = Case(width=256, batch=64)
VALUES = {"width": (128, 192, 256, 384), "depth": (2, 3, 5), "batch": (16, 32, 64), "iterations": (10, 20, 40)}


@pytest.mark.parametrize("over", VALUES)
@pytest.mark.parametrize("row", HERE, ids=lambda row: row.method)
def test_operations_grow_as_the_terms_of_this_code(row, over):
    """Counted, without noise. A term leaves out what blocks and padding add: up to half, and 0.25 in the exponent; of
    curvature, but for the last strip of a symmetric product, it has everything."""
    values = VALUES[over]
    cases = [replace(WIDE, **{over: value}) for value in values]
    counted = [_counted(row.method, case) for case in cases]
    for part, share, tolerance in (("curvature", 1.08, 0.02), ("solve", 1.5, 0.25)):
        stated = np.array([getattr(row, part).of(case) for case in cases])
        measured = np.array([of[part] for of in counted]) / 2
        if getattr(row, part) is terms.NOTHING:
            assert not measured.any()
            continue
        assert np.all((measured / stated > 0.92) & (measured / stated < share))
        exponents = (growth_exponent(values, of).value for of in (measured, stated))
        assert next(exponents) == pytest.approx(next(exponents), abs=tolerance)


@pytest.mark.parametrize(
    ("method", "part", "expected"),
    [
        ("KFAC", "curvature", {"width": 2, "depth": 1, "batch": 1}),
        ("KFRA", "curvature", {"width": 3, "depth": 1, "batch": 0}),
        ("EA-CG", "curvature", {"width": 3, "depth": 1, "batch": 0, "iterations": 0}),
        ("KFAC", "solve", {"width": 3, "depth": 1, "batch": 0}),
        ("EA-CG", "solve", {"width": 2, "depth": 1, "batch": 0, "iterations": 1}),
        ("KFAC", "space", {"width": 2, "depth": 1, "batch": 0}),
        ("EA-CG", "space", {"width": 2, "depth": 1, "batch": 0, "iterations": 0}),
    ],
)
@pytest.mark.parametrize("by", ["paper", "here"])
def test_terms_have_the_exponents_of_theory(method, part, expected, by):
    """In the limit of what is varied, the rest small beside it; but here the batch has its share in everything."""
    row = next(row for row in ROWS if (row.method, row.by) == (method, by))
    for over, exponent in expected.items():
        if by == "here" and over == "batch":
            continue
        sizes = [(10**3 if over == "depth" else 10**7) * factor for factor in (1, 2, 4)]
        cases = [replace(Case(width=10**4), **{over: size}) for size in sizes]
        stated = growth_exponent(sizes, [getattr(row, part).of(case) for case in cases])
        assert stated.value == pytest.approx(exponent, abs=0.02)


@pytest.mark.parametrize(
    ("method", "curvature", "space", "solve"),
    [
        ("KFAC", 16 * (2**2 + 2**2 + 10**2), 64**2 + 2 * (2**2 + 2**2) + 10**2, 270_600 + 32 + 1_248),
        ("KFRA", 2**2 * 2 + 2**2 * 10, 64**2 + 2 * (2**2 + 2**2) + 10**2, 270_600 + 32 + 1_248),
        ("EA-CG", 2**2 * 2 + 2**2 * 10, 64 + 2 + 2 + 2**2 + 2**2 + 10**2, 7 * (260 + 12 + 140)),
    ],
)
def test_the_papers_terms_have_the_papers_numbers(method, curvature, space, solve):
    """Of the network 64-2-2-10 with |Batch| 16 and |CG| 7; to solve a layer KFI takes n_t^3 + n_{t-1}^3 + n_{t-1}^2 n_t
    + n_{t-1} n_t^2, EA-CG |CG| (n_t^2 + 2 n_t n_{t-1})."""
    (row,) = (row for row in ROWS if (row.method, row.by) == (method, "paper"))
    case = Case(width=2, depth=2, batch=16, iterations=7)
    assert [term.of(case) for term in (row.curvature, row.space, row.solve)] == [curvature, space, solve]


def test_table_1_has_the_rows_of_the_paper():
    """Criterion functions, curvature information and solving schemes, of the paper's methods and of those here."""
    kinds = {
        "KFAC": ("Non-Convex", "Fisher", "KFI"),
        "KFRA": ("Convex", "Gauss-Newton", "KFI"),
        "EA-CG": ("Non-Convex", "PCH", "EA-CG"),
    }
    for row in ROWS:
        assert (row.kind.criterion, row.kind.curvature, row.kind.scheme) == kinds[row.method.split()[0]]
    published = (Path(__file__).parents[1] / "results/published/table1/table.md").read_text()
    cells = unescape(published).replace(r"\|", "|")
    for term in (term for row in ROWS for term in (row.curvature, row.space, row.solve)):
        assert f"| {term.text} " in cells
    for method, (criterion, curvature, scheme) in kinds.items():
        assert re.search(
            rf"^\| {method} +\| paper +\| {criterion} +\| {curvature} +\| .* \| {scheme} +\|", published, re.M
        )


@pytest.mark.parametrize("scale", GROWTH_SCALES.values(), ids=GROWTH_SCALES)
def test_every_sweep_can_be_fitted(scale):
    """Everything is varied at every scale, and the values are as many as are fitted or more, in order."""
    assert [sweep.over for sweep in scale.sweeps] == ["width", "depth", "batch", "iterations"]
    for sweep in scale.sweeps:
        assert len(sweep.values) >= FITTED
        assert list(sweep.values) == sorted(set(sweep.values))


def test_iterations_that_are_not_done_are_refused():
    """CG that stopped at its tolerance is no measurement of so many iterations."""
    task = Task.load(Settings(network=(64, 32, 32, 10), batch_size=16, device="cpu"))
    step = task.step(choose("ea_cg[tolerance=0.5,max_iter=10]"), seed=0)
    with pytest.raises(RuntimeError, match=r"CG went through \d of 10 iterations"):
        count_and_weigh(step, Case(width=32))


def test_smoke_scale(kronbench, tmp_path):
    """From the command line: every size in the record, every exponent in the tables, and a picture."""
    code, out, err = kronbench("reproduce", "table1", "--output", tmp_path / "out", "--device", "cpu")
    assert (code, err) == (0, "")
    files = ["config.toml", "growth.jsonl", "growth.png", "growth.svg", "table.csv", "table.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in out
    assert "scale smoke: digits" in text.splitlines()[0]
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (9, 11) for line in tables)  # of 8 and of 10 columns
    assert kronbench("reproduce", "--config", tmp_path / "out" / "config.toml")[0] == 0  # taken from the record
    assert (tmp_path / "out" / "table.md").read_text() == text
    record, scale = read_growth(tmp_path / "out" / "growth.jsonl"), GROWTH_SCALES["smoke"]
    assert record.status == "finished"
    assert [(point.over, getattr(point, point.over)) for point in record.points] == [
        (sweep.over, value) for sweep in scale.sweeps for value in sweep.values
    ]
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(DictReader(file))
    assert (
        len(rows) == 5 * (3 * len(ROWS) + 2) - 2 * 3
    )  # of EA-CG two rows over iterations; KFAC exact forms no curvature
    found = {(row["over"], row["method"], row["terms"], row["part"], row["quantity"]): row for row in rows}
    fisher = found["batch", "KFAC", "paper", "curvature", "operations"]
    assert [float(fisher[name]) for name in ("stated", "measured", "low", "high")] == pytest.approx([1, 1, 1, 1])
    for row in rows:
        assert float(row["low"]) <= float(row["measured"]) <= float(row["high"])
    assert float(found["iterations", "EA-CG", "paper", "solve", "seconds"]["stated"]) == pytest.approx(1)


def _record(sweep, seconds):
    """A record of EA-CG whose seconds, of the rounds of a case, are what ``seconds`` says."""

    def costs(case):
        of = (dict.fromkeys(growth.PHASES, value) for value in (seconds(case), case.iterations, 8))
        return Costs("ea_cg", *of)

    points = [Measured(over=sweep.over, **vars(case), figures={"EA-CG": costs(case)}) for case in sweep.cases]
    header = Header(experiment=GrowthExperiment(scale=GROWTH_SCALES["smoke"]), environment=describe("cpu"))
    return Journal(Path("growth.jsonl"), header, points, End(status="finished"))


def test_seconds_are_the_shortest_and_sizes_the_largest():
    """Rounds that another load made longer, and small sizes that do not follow, change nothing."""
    sweep = Sweep("iterations", (1, 10, 20, 40, 60, 80), Case())
    record = _record(sweep, lambda case: [5.0] if case.iterations == 1 else [case.iterations * 2.0, 1e3])
    scale = GrowthScale("any", 1, (sweep,))
    table = exponents(scale, record)
    (row,) = (r for r in table.rows if (r["terms"], r["part"], r["quantity"]) == ("paper", "solve", "seconds"))
    assert [row[name] for name in ("measured", "low", "high")] == pytest.approx([1, 1, 1])
    assert "1.00 [1.00, 1.00]" in summary(scale, table, record)


def test_a_run_that_fails_keeps_what_it_measured(kronbench, tmp_path, monkeypatch):
    """One point a size, then the reason; no table."""
    measured = growth.measure

    def fails_at_48(case, *rest):
        return measured(case, *rest) if case.width < 48 else 1 / 0

    monkeypatch.setattr(growth, "measure", fails_at_48)
    code, _, err = kronbench("reproduce", "table1", "--output", tmp_path, "--device", "cpu")
    assert code == 1
    assert "failed: table1: ZeroDivisionError" in err
    record = read_growth(tmp_path / "growth.jsonl")
    assert record.status == "failed"
    assert [point.width for point in record.points] == [16, 24, 32]
    assert [path.name for path in tmp_path.iterdir()] == ["growth.jsonl"]


def test_a_run_that_died_goes_on_at_the_size_it_had_reached(tmp_path, monkeypatch):
    """What finished is not measured again, unless that is asked for."""
    scale = replace(GROWTH_SCALES["smoke"], sweeps=(Sweep("width", (4, 8, 12), Case()),))
    widths, dies_at = [], 8

    class Died(BaseException):
        pass

    def measure(case, *rest):
        if case.width == dies_at:
            raise Died
        widths.append(case.width)
        return {}

    monkeypatch.setattr(growth, "measure", measure)
    path = tmp_path / "growth.jsonl"
    with pytest.raises(Died):
        growth.measure_growth(scale, "cpu", path)
    dies_at = None
    done = growth.measure_growth(scale, "cpu", path)
    assert widths == [4, 8, 12]
    assert [point.width for point in done.points] == [4, 8, 12]
    assert growth.measure_growth(scale, "cpu", path) == done
    assert widths == [4, 8, 12]
    growth.measure_growth(scale, "cpu", path, resume=False)
    assert widths == [4, 8, 12] * 2
