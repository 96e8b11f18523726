"""The page of results: its first screen, what is folded, links that a copy keeps, looks of methods, LaTeX."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from suites.harness.analysis.answer import COSTS
from suites.harness.analysis.experiment import collect
from suites.harness.names import plain_name
from suites.harness.records.facts import ProblemFacts
from suites.harness.show import measurements
from suites.harness.show.comparison import comparison_table
from suites.harness.show.looks import COLOURS, in_order, look_of, looks
from suites.harness.show.overview import overview
from suites.harness.show.page import build
from suites.harness.show.table import Cell, Column, Table, latex
from suites.harness.training.catalog import named
from suites.harness.units import shown_bytes
from tests.example_records import header, point, write
from tests.pages import elements
from tests.test_site import HOSTILE, write_run

ROOT = Path(__file__).parents[1]
SHOWN = (
    "published/digits-cross-entropy",
    "published/digits-bounded",
    "published/memory-imagenet10",
    "published/table2",
)
DIGITS = "published-digits-cross-entropy"
NAMED = ("sgd", "torch.optim.Adam", "kfac", "kfra", "ea_cg", "ea_cg[gamma=0]")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with a little of each kind of result, and its site."""
    results = tmp_path_factory.mktemp("results")
    for name in SHOWN:
        shutil.copytree(ROOT / "results" / name, results / name)
    write_run(results / "latest" / "mine", HOSTILE[0], 0)
    for spec, speed in (("sgd[lr=1]", 1), ("ea_cg", 2), ("kfac", 2), ("torch.optim.Adam", 0.1)):
        for seed in range(7):
            write_run(results / "latest" / "four", spec, seed, speed=speed)
    for seed in range(2):
        write_run(results / "latest" / "two", "kfra", seed, speed=0.1)
    shutil.copy(next((ROOT / "results" / "gpu").glob("*/step-times.jsonl")), results / "latest")
    build(collect(results), results)
    return results


@pytest.fixture(scope="module")
def page(built):
    return (built / "site" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(page):
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_nothing_but_the_first_screen_and_the_glossary_is_unfolded(page):
    main = [one for one in elements(page) if one.parents and one.parents[-1].tag == "main"]
    assert [one.classes[0] for one in main if one.tag == "section"] == ["overview", "glossary"]
    folded = [one for one in main if one.tag == "details"]
    assert len(folded) > 5
    assert not [one for one in elements(page) if one.tag == "details" and "open" in one.attributes]
    rest = [one for one in main if one.tag not in ("section", "details")]
    assert [one.tag for one in rest] == ["h2", "p"]  # a heading, and one line about what was not recorded
    assert not [one for one in elements(page) if one.tag in ("figure", "img") and not one.within("details")]


def test_the_glossary_has_ten_terms(page):
    assert len([one for one in elements(page) if one.tag == "dt" and one.within("section", "glossary")]) == 10


def _squares(page, cost):
    """By the text of a row, the text and the mark of every method, and whether the row is folded."""
    found = [one for one in elements(page) if any(p.attributes.get("id") == f"matrix-{cost}" for p in one.parents)]
    squares, heads = {}, []
    for cell in found:
        if cell.tag == "thead":
            heads = []
        elif cell.attributes.get("scope") == "col":
            heads.append(cell.text)
        elif cell.attributes.get("scope") == "row" and cell.within("tbody"):
            squares[cell.text] = row = {"folded": cell.within("details")}
            methods = iter(heads)
        elif cell.tag == "td" and cell.within("tbody"):
            row[next(methods)] = (cell.text, cell.classes[0])
    return squares


def _row(page, cost, seeds):
    """The text and the squares of the row with so many seeds."""
    return next((text, row) for text, row in _squares(page, cost).items() if f" {seeds} seeds, 10 epochs" in text)


def test_the_first_screen_marks_the_best_and_who_cannot_be_told_from_it(page):
    """Two methods with the same runs are level; of the settings, each says what it is where they are not alike."""
    text, row = _row(page, "gradients", 7)
    assert text == "digits, cross-entropy to 0.97, best 56 3 untuned and 1 given, 7 seeds, 10 epochs, EPYC"
    assert sorted(row[name] for name in ("EA-CG, PCH-1", "KFAC")) == [
        ("1.0†best", "best"),
        ("1.0†level with the best", "level"),
    ]
    assert row["SGD"] == ("2.0", "behind")


def test_the_first_screen_says_who_did_not_arrive_and_who_did_not_run(page):
    _, row = _row(page, "gradients", 7)
    assert row["Adam"] == ("–†not reached", "never")
    assert row["KFRA"] == ("", "none")
    text, row = _row(page, "gradients", 2)
    assert text == "digits, cross-entropy to 0.95 untuned, 2 seeds, 10 epochs, EPYC"
    assert row["KFRA"] == ("–not reached", "never")


def test_a_problem_has_one_row_and_its_other_experiments_are_folded(page):
    """The tuned one counts, though others are newer."""
    for cost in COSTS:
        rows = _squares(page, cost)
        first = [text for text, row in rows.items() if not row["folded"]]
        assert [text.partition(" to ")[0] for text in first] == ["digits, cross-entropy", "digits, bounded"]
        assert all("tuned, 20 seeds, 40 epochs" in text for text in first)
        assert len(rows) == 5


def test_the_first_screen_ends_with_the_scores(built, page):
    """Of the methods that have one, in the order of the columns."""
    first = overview(collect(built).experiments)
    for cost, board in first.boards.items():
        assert board.scores
        found = [one for one in elements(page) if any(p.attributes.get("id") == f"matrix-{cost}" for p in one.parents)]
        shown = [one.text for one in found if one.tag == "td" and one.within("tfoot")]
        values = {method: f"{score.value.value:.2f}" for method, score in board.scores.items()}
        assert shown == [values.get(method, "") for method in first.counting.methods]


def test_problems_have_names_and_no_folders(page):
    headings = [one.text for one in elements(page) if one.tag in ("h2", "h3")]
    assert "digits, bounded" in headings
    assert not [heading for heading in headings if "published" in heading or "latest" in heading]


def test_a_method_with_several_settings_has_one_square(tmp_path):
    """The cheapest, with the number of settings."""
    for spec, speed in (("kfac[lr=0.1]", 1), ("kfac[lr=0.2]", 2), ("sgd", 1)):
        for seed in range(2):
            write_run(tmp_path / "one", spec, seed, speed=speed)
    first = overview(collect(tmp_path).experiments)
    (row,) = first.rows
    square = row.squares["gradients"]["KFAC"]
    assert first.counting.methods == ["SGD", "KFAC"]
    assert (square.spec, square.settings, square.factor, square.place) == ("kfac[lr=0.2]", 2, 1.0, "best")


def test_a_copy_of_the_site_has_all_that_it_links_to(built, tmp_path):
    """No link leads out of it, and each leads to a file or a part of the page."""
    site = shutil.copytree(built / "site", tmp_path / "elsewhere")
    found = elements((site / "index.html").read_text(encoding="utf-8"))
    names = {one.attributes["id"] for one in found if one.attributes.get("id")}
    links = {one.attributes[key] for one in found for key in ("href", "src") if one.attributes.get(key)}
    links |= set(re.findall(r"url\(([^)]+)\)", (site / "page.css").read_text(encoding="utf-8")))
    assert len(links) > 15
    for link in links - {"data:,"}:
        path, _, part = unquote(link).partition("#")
        assert ":" not in path
        assert (site / path).resolve().is_relative_to(site.resolve())
        assert (site / path).exists()
        assert part in names | {""}


def test_records_lie_in_the_site_as_they_are(built):
    with zipfile.ZipFile(built / "site" / "records" / f"{DIGITS}.zip") as packed:
        folder = SHOWN[0]
        written = {path.relative_to(built).as_posix() for path in (built / folder / "runs").iterdir()}
        assert set(packed.namelist()) == written | {f"{folder}/config.toml", f"{folder}/step_seconds.json"}
        assert all(packed.read(name) == (built / name).read_bytes() for name in packed.namelist())


def _lengths(figure):
    """Of each bar of a figure, over its parts."""
    return [sum(parts) for parts in zip(*(trace["x"] for trace in figure.traces), strict=True)]


def test_bars_of_phases_are_as_long_as_the_table_says(built):
    """Of an experiment the step time over SGD, of a GPU run its milliseconds."""
    found = collect(built)
    (experiment,) = (one for one in found.experiments if one.name == SHOWN[0])
    table = comparison_table(experiment.records, experiment.step_seconds, experiment.target)
    ratios = [cell.value for cell in table.column("step_ratio")]
    assert _lengths(measurements.phases(experiment)) == pytest.approx(ratios, rel=1e-3)
    (measured,) = found.step_times
    drawn = [figure for figure in measurements.step_time_figures(measured) if "batch 100" in figure.title]
    milliseconds = [row.milliseconds[0] for row in measured.rows if row.milliseconds]
    assert len(drawn) > 1
    for length in (length for figure in drawn for length in _lengths(figure)):
        assert min(abs(length / one - 1) for one in milliseconds) < 1e-3


def test_the_named_methods_differ_in_colour_and_marker():
    found = [look_of(spec) for spec in NAMED]
    assert len({look.colour for look in found}) == len({look.marker for look in found}) == len(NAMED)


def test_every_optimizer_of_ours_has_a_colour_of_its_own():
    """And a fixed one: it is drawn before those without."""
    ours = named()
    assert len({look_of(spec).colour for spec in ours}) == len(ours)
    names = [plain_name(spec) for spec in ours]
    assert in_order(["Aaa", *names])[-1] == "Aaa"


def test_a_look_belongs_to_a_method_and_not_to_a_place():
    assert looks(["kfac", "sgd"])["kfac"] == looks(["mine", "kfac[lr=0.2]"])["kfac[lr=0.2]"] == look_of("fisher+kfi")
    two = looks(["kfac[lr=0.2]", "kfac[lr=0.1]"])
    first, second = two["kfac[lr=0.1]"], two["kfac[lr=0.2]"]
    assert (first.colour, first.marker) == (second.colour, second.marker)
    assert first.dash != second.dash


def test_a_users_method_keeps_its_look():
    """In every process, and none of the named methods has its colour."""
    code = "from suites.harness.show.looks import look_of; print([look_of(f'mine{n}').colour for n in range(9)])"
    for seed in ("0", "1"):
        told = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert json.loads(told.stdout) == [look_of(f"mine{n}").colour for n in range(9)]
    assert not {look_of(f"mine{n}").colour for n in range(99)} & {look_of(spec).colour for spec in NAMED}


def test_a_method_has_one_colour_in_pictures_and_page(built, data):
    """Whatever else is drawn with it."""
    for spec, name in (("kfac", "KFAC"), ("ea_cg", "EA-CG, PCH-1"), ("sgd", "SGD")):
        colour = look_of(spec).colour
        for figure in data["figures"].values():
            drawn = {trace["line"]["color"] for trace in figure["data"] if trace.get("name") == name}
            assert drawn <= {f"$c{colour}"}
        for stem in ("published-digits-cross-entropy", "published-digits-bounded"):
            picture = (built / "site" / "pictures" / f"{stem}.svg").read_text()
            assert COLOURS[colour] in picture or colour == 0  # black is what is not said


PAPER = Table(
    [
        Column("method", "method", brief="method"),
        Column("setting", "setting"),
        Column("gradients", "gradient-equivalents to 0.95", ".3g", brief="gradient [lr=0.2]"),
        Column("state", "optimizer memory", shown_bytes, brief="state"),
    ],
    [
        {"method": "SGD", "setting": "sgd[lr=1]", "gradients": Cell(119, 112, 150), "state": Cell(77000)},
        {"method": "[odd] {name}", "gradients": Cell(1.25), "state": Cell(113000)},
        {"method": HOSTILE[2], "gradients": Cell(math.inf, 90, math.inf, "(1 of 5)")},
    ],
)


def test_latex_has_the_columns_of_a_paper_with_points_aligned():
    head, *lines = latex(PAPER).splitlines()
    assert head == r"% \usepackage{booktabs}"
    assert "setting" not in "".join(lines)
    body = [line for line in lines if line.startswith("{}")]
    assert body[0] == r"{}SGD & 119\phantom{.00} & {\scriptsize\ [112, 150]} & 77 kB & \\"
    assert body[1] == r"{}[odd] \{name\} & 1.25 & & 113 kB & \\"
    assert r"$\infty$ & {\scriptsize\ (1 of 5)} & - & \\" in body[2]


def test_latex_compiles_and_the_main_tables_fit_a_page(built, tmp_path):
    """Of 5.5 inches, as that of NeurIPS. Needs TeX: apt-get install texlive-latex-recommended."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no TeX here: apt-get install texlive-latex-recommended")
    names = [path.stem for path in sorted((built / "tables").glob("*.tex"))]
    (tmp_path / "hostile.tex").write_text(latex(PAPER))
    files = [tmp_path / "hostile.tex", *(built / "tables" / f"{name}.tex" for name in names)]
    shown = "".join(rf"\typeout{{TABLE {path.stem}}}\noindent\input{{{path}}}\par" + "\n" for path in files)
    source = r"\documentclass{article}\usepackage{booktabs}\setlength{\textwidth}{5.5in}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{source}\n{shown}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    told = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout[-2000:]
    wide = {one.split()[0] for one in told.stdout.split("TABLE ")[1:] if "Overfull" in one}
    assert not wide & {"hostile", DIGITS, "published-digits-bounded", *(f"overview-{cost}" for cost in COSTS)}


def test_a_row_says_that_its_target_is_a_loss(tmp_path):
    loss = {"metric": "test loss", "unit": "nats an image", "larger_is_better": False, "source": None}
    facts = replace(header(dataset="mine", epochs=1), problem=ProblemFacts(targets=(0.5, 0.25), **loss))
    points = [point(epoch, train_loss=1 / (1 + 2 * epoch)) for epoch in range(2)]
    write(tmp_path / "one" / "runs" / "sgd.jsonl", facts, points)
    (row,) = overview(collect(tmp_path).experiments).rows
    assert (row.goal, row.best("gradients")) == ("to test loss 0.5", "14")
