"""``kronbench report``: the same bytes from the same records, names escaped, nothing dropped, profiles by hand."""

import csv
import filecmp
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from suites.harness.analysis.answer import answer
from suites.harness.analysis.costs import exponent
from suites.harness.analysis.experiment import collect
from suites.harness.analysis.history import Measured
from suites.harness.cli import app
from suites.harness.data.tuned import write_tuned
from suites.harness.records.config import read_config, read_toml
from suites.harness.records.facts import NegativeCurvature, SolverHealth
from suites.harness.show.captions import PREFERRED, readme_block, sentences, with_headline
from suites.harness.show.comparison import solver_failures
from suites.harness.show.figures import literal, solver_health
from suites.harness.show.overview import overview
from suites.harness.show.page import build
from suites.harness.show.table import WRITERS, Cell, Column, Table
from suites.harness.units import shown_bytes
from tests.example_records import TUNED, as_schema_2, header, phase, point, write
from tests.pages import elements, rows

ROOT = Path(__file__).parents[1]
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "a_b%c&d|e$f^{g}\\h")


def write_run(folder, optimizer, seed, *, speed=1, epochs=10, status="finished", reason=None, steps=14, **experiment):
    """A run whose accuracy reaches the targets of the digits after 8 / speed epochs; one of ten that has fewer broke
    off."""
    health = SolverHealth(
        iterations_mean=(4.5,) * steps,
        iterations_max=(9,) * steps,
        residual_max=(0.01,) * steps,
        failed_factorizations=(0,) * steps,
        negative_curvature=(1,) + (0,) * (steps - 1),
        not_finite=(2,) + (0,) * (steps - 1) if optimizer == "ea_cg" else None,
        pi=(80.0 + seed, 20.0),
    )
    points = [
        point(
            epoch,
            steps=steps,
            training_seconds=0.1 * epoch * speed * (1 + seed / 50),
            train_loss=2.0 / (1 + epoch * speed),
            test_accuracy=min(0.1 + 0.11 * epoch * speed - 0.002 * seed, 0.97),
            phases={"solve": phase(1e-3), "update": phase(1e-4)} if epoch else {},
            solver=health if epoch else None,
            negative_curvature=NegativeCurvature(eigenvalues=3 - min(epoch, 3), share=0.1, bends=(0.5,)),
        )
        for epoch in range(epochs + 1)
    ]
    path = folder / "runs" / f"{optimizer.encode().hex()}_{seed}.jsonl"
    facts = header(**{"optimizer": optimizer, "seed": seed, "epochs": max(epochs, 10), **experiment})
    write(path, facts, points, status, reason, peak_state_bytes=round(1000 * speed))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Results with hostile names, runs that broke off, a search, asv's history and a table of the paper."""
    results = tmp_path_factory.mktemp("results")
    folder = results / "latest" / "digits-cross-entropy"
    for seed in range(6):
        write_run(folder, "sgd", seed)
        write_run(folder, "ea_cg", seed, speed=2)
        write_run(folder, HOSTILE[0], seed, speed=1.5)
    write_run(folder, HOSTILE[1], 0, epochs=3, status="diverged", reason="train loss is nan after epoch 3")
    write_run(folder, HOSTILE[2], 0, epochs=-1, status="failed", reason="out of memory: asked for 90.6 GB")
    search = results / "latest" / "tune"
    write_run(search, "ea_cg", 1000, validation=0.2)
    cost = replace(TUNED.search, space={}, seconds=100.0, gradient_equivalents=5000.0)
    write_tuned(search / "tuned.toml", [replace(TUNED, optimizer="ea_cg", options={}, search=cost)])
    _write_history(results / "asv")
    paper = results / "published" / "table2"
    paper.mkdir(parents=True)
    (paper / "table.csv").write_text("curvature,by,1,2,Total\nGN,here,0.25,0.5,0.559\nGN,paper,0.1,,0.1\n")
    (paper / "table.md").write_text("# Table 2: errors <b>\n")
    return results


def _write_history(folder):
    """Two commits of a benchmark with a parameter, and one whose workload changed since."""
    (folder / "machine").mkdir(parents=True)
    params = [["'solver ea_cg'"], ["'32'", "'128'"]]
    known = {
        "scaling.Width.track_seconds": {"param_names": ["part", "width"], "unit": "seconds", "version": "1"},
        "old": {"params": [], "unit": "seconds", "version": "2"},
        "version": 2,
    }
    (folder / "benchmarks.json").write_text(json.dumps(known))
    columns = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b"]
    for date, commit, values in ((1, "b" * 40, [1.0, 16.0]), (2, "a" * 40, [2.0, math.nan])):
        row = [values, params, "1", 0, 0, [0.9, None], [1.1, None]]
        of_commit = {"commit_hash": commit, "date": date, "result_columns": columns, "version": 2}
        of_commit["results"] = {"scaling.Width.track_seconds": row, "old": [[3.0], [], "1"]}
        (folder / "machine" / f"{commit[:8]}.json").write_text(json.dumps(of_commit))
    (folder / "machine" / "machine.json").write_text(json.dumps({"machine": "machine"}))


@pytest.fixture(scope="module")
def page(recorded, tmp_path_factory):
    return build(collect(recorded), tmp_path_factory.mktemp("out")).read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes(recorded, tmp_path):
    """In processes with other hash seeds as well."""
    code = "import sys; from pathlib import Path; from suites.harness.analysis.experiment import collect\n"
    code += "from suites.harness.show.page import build; build(collect(Path(sys.argv[1])), Path(sys.argv[2]))"
    for name in ("0", "1"):
        command = [sys.executable, "-c", code, str(recorded), str(tmp_path / name / "out")]
        subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONHASHSEED": name, "OMP_NUM_THREADS": "1"}, timeout=120)
    first, second = (tmp_path / name / "out" for name in ("0", "1"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    _, different, unreadable = filecmp.cmpfiles(first, second, files, shallow=False)
    assert not different
    assert not unreadable
    suffixes = {path.suffix for path in files}
    assert suffixes == {".html", ".css", ".js", ".svg", ".png", ".pdf", ".md", ".tex", ".csv", ".zip"}


def test_names_are_text(page):
    """In the page and in the data that it carries."""
    for name in HOSTILE[:2]:
        assert name not in page
    assert "&lt;img src=x onerror=alert(1)&gt;, seed 0" in page
    assert page.count("</script>") == page.count("<script")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    names = {trace.get("name") for figure in data["figures"].values() for trace in figure["data"]}
    assert literal(f"{HOSTILE[0]} (untuned)") in names
    assert f"{HOSTILE[0]} (untuned)" not in names


def test_the_page_reaches_no_network(page):
    policy = page.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http:" not in page
    assert "https:" not in page


def test_runs_that_broke_off_are_shown(page):
    broken = [one.text for one in elements(page) if one.tag == "li" and one.within("ul", "broken")]
    assert broken == [
        f"{HOSTILE[1]}, seed 0: diverged, train loss is nan after epoch 3",
        f"{HOSTILE[2]}, seed 0: failed, out of memory: asked for 90.6 GB",
    ]
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    loss = data["figures"]["latest-digits-cross-entropy-figure-0"]["data"]
    (broken,) = [trace for trace in loss if str(trace.get("name")).endswith("seed 0: diverged")]
    assert len(broken["y"]) == 4


def test_tuning_is_added_where_the_setting_was_searched(recorded):
    """The search itself is no experiment."""
    found = collect(recorded)
    assert [experiment.name for experiment in found.experiments] == ["latest/digits-cross-entropy"]
    assert list(found.experiments[0].tunings) == ["ea_cg"]


def test_tables_say_what_the_tuning_cost(page):
    found = {row[0].text: [cell.text for cell in row] for row in rows(page, "table-latest-digits-cross-entropy")}
    assert "no tuning recorded" in found["SGD"]
    assert "5056" in found["EA-CG, PCH-1"]  # and 4 epochs of 14 gradients


def test_health_shows_pi_by_layer_and_negative_eigenvalues(recorded):
    """Medians over six seeds; a method none of whose records carry a number has no line."""
    (experiment,) = collect(recorded).experiments
    drawn = solver_health(experiment.methods, experiment.name)
    found = {figure.title: figure.traces for figure in drawn}
    by_layer = next(traces for title, traces in found.items() if title.startswith("pi_t"))
    assert {trace["name"] for trace in by_layer} == {
        literal(name) for name in ("SGD (untuned)", "EA-CG, PCH-1 (untuned)", f"{HOSTILE[0]} (untuned)")
    }
    assert all((trace["x"], trace["y"]) == ([1.0, 2.0], [82.5, 20.0]) for trace in by_layer)
    negative = next(traces for title, traces in found.items() if title.startswith("negative eigenvalues"))
    assert negative[2]["y"] == [3.0, 2.0, 1.0] + [0.0] * 8
    assert len(negative) == 3 * 3  # low, high and middle of each


def test_trouble_of_solves_is_counted(recorded):
    """Over points and seeds; what older records do not count is not known."""
    (experiment,) = collect(recorded).experiments
    found = {row["method"]: row for row in solver_failures(experiment.methods, "solves").rows}
    assert [found["EA-CG, PCH-1 (untuned)"][key] for key in ("negative curvature", "not finite")] == [60, 120]
    assert [found["SGD (untuned)"][key] for key in ("negative curvature", "not finite", "ill conditioned")] == [
        60,
        None,
        None,
    ]


def test_an_experiment_names_the_commands_that_make_it_again(tmp_path):
    """From the configurations beside its runs; without one it says nothing."""
    folder = tmp_path / "mine" / "digits-cross-entropy"
    write_run(folder, "sgd", 0)
    (experiment,) = collect(tmp_path).experiments
    assert experiment.command == ""
    (folder / "figure10.toml").write_text('name = "figure10"')
    (folder / "figure9.toml").write_text('name = "figure9"')
    (experiment,) = collect(tmp_path).experiments
    again = "kronbench reproduce --config"
    assert experiment.command == f"{again} {folder / 'figure9.toml'}; {again} {folder / 'figure10.toml'}"
    (folder / "config.toml").write_text("convergence = true")
    assert "kronbench gpu --config" in collect(tmp_path).experiments[0].command
    (folder / "config.toml").write_text('convergence = true\ncommand = "compare"')
    assert "kronbench compare --config" in collect(tmp_path).experiments[0].command
    (folder / "config.toml").write_text("epochs = 8")
    assert "kronbench compare --config" in collect(tmp_path).experiments[0].command


def test_every_published_table_and_picture_has_a_configuration_that_its_command_takes():
    """Beside it, of the whole folder or of one figure."""
    kinds = ("published/*/**/table.md", "published/**/*.png", "published/**/*.svg", "gpu/**/*.png")
    shown = [path for kind in kinds for path in (ROOT / "results").glob(kind)]
    assert shown
    for path in shown:
        config = next(file for file in (path.with_suffix(".toml"), path.with_name("config.toml")) if file.exists())
        values = read_toml(config)
        command = "gpu" if "convergence" in values else "reproduce" if "name" in values else "compare"  # of old ones
        command = values.get("command", command)
        flags = [flag.name for flag in get_command(app).get_command(None, command).params]
        assert path.is_relative_to(ROOT / read_config(config, command, flags)["output"])


def test_a_method_has_one_name_on_all_problems(tmp_path):
    """Without what the grid search varies, unless several settings of it ran."""
    for spec in ("kfac[inverse=gram,lr=0.1]", "ea_cg[lr=0.1]", "ea_cg[lr=0.2]", "sgd"):
        write_run(tmp_path, spec, 0)
    (experiment,) = collect(tmp_path).experiments
    assert set(experiment.by_method.methods) == {"kfac[inverse=gram]", "ea_cg[lr=0.1]", "ea_cg[lr=0.2]", "sgd"}


def test_history_goes_by_commit_and_version(recorded):
    """What is missing at a commit and what measured another workload is left out."""
    narrow, wide = collect(recorded).history
    assert narrow.title == "scaling.Width.track_seconds, 32 on machine"
    assert narrow.unit == "seconds"
    assert [(one.commit, one.value) for one in narrow.series["solver ea_cg"]] == [("b" * 7, 1.0), ("a" * 7, 2.0)]
    assert wide.case == "128"
    assert [one.value for one in wide.series["solver ea_cg"]] == [16.0]
    newer = replace(
        wide, series={"new": [Measured(3, "c", 1.0)], "old": [Measured(1, "d", 1.0), Measured(3, "c", 2.0)]}
    )
    assert newer.commits == ["d", "c"]


def test_the_answer_says_who_is_best_and_how_sure_it_is(recorded):
    experiment = max(collect(recorded).experiments, key=lambda one: len(one.records))
    gradients, seconds, *_ = sentences(answer(experiment.methods, experiment.target))
    assert gradients.startswith("gradient-equivalents to 0.97: EA-CG, PCH-1 56. 1.5x fewer than <img")
    assert " 2x fewer than SGD (probability 1.00 [0.57, 1.00]). Never there: " in gradients
    assert seconds.startswith("seconds to 0.97: ")


def test_growth_is_fitted_to_the_wider_half():
    points = [(8, 5.0), (16, 5.0), (32, 2.0), (64, 16.0), (128, 128.0)]
    assert exponent(points) == pytest.approx((3, 3, 3))


@pytest.mark.parametrize(
    ("content", "form", "text", "key"),
    [
        (Cell(140, 94, 163), ".0f", "140 [94, 163]", 140),
        (Cell(1.0, 0.996, 1.004), ".2f", "1.00", 1),
        (Cell(3, 2, math.inf), ".3g", "3 [2, inf]", 3),
        (Cell(0.5, 0.25, 0.75, "="), ".2f", "0.50 [0.25, 0.75] =", 0.5),
        (Cell(77000), shown_bytes, "77 kB", 77000),
        (1.2e-5, ".4g", "1.2e-05", 1.2e-5),
        (12345, ".4g", "12345", 12345),
        (Cell(math.inf, 2, math.inf, "(1 of 5)"), ".3g", "not reached (1 of 5)", math.inf),
        ("64-32-10", ".4g", "64-32-10", None),
        (None, ".4g", "-", None),
    ],
)
def test_a_cell_is_written_at_the_end_and_sorted_by_its_number(content, form, text, key):
    assert Table([Column("one", "One", form)], [{"one": content}]).cells == [[(text, key)]]


def test_a_narrow_interval_is_shown_where_it_is_wanted():
    assert Column("one", "One", ".2f", narrow=True).text(Cell(1.0, 1.0, 1.0)) == "1.00 [1.00, 1.00]"


def test_tables_are_escaped_in_every_form():
    columns = [Column("optimizer", "optimizer"), Column("loss", "loss", ".2g")]
    rows = [{"optimizer": HOSTILE[2], "loss": Cell(1 / 3, 0.25, 0.5)}, {"optimizer": HOSTILE[0]}]
    forms = {suffix: write(Table(columns, rows)) for suffix, write in WRITERS.items()}
    assert r"a\_b\%c\&d\textbar{}e\$f\textasciicircum{}\{g\}\textbackslash{}h & 0.33 &" in forms["tex"]
    assert r"a_b%c&d\|e$f^{g}" in forms["md"]
    assert "<img" not in forms["md"]
    assert list(csv.reader(forms["csv"].splitlines())) == [
        ["optimizer", "loss", "loss low", "loss high"],
        [HOSTILE[2], str(1 / 3), "0.25", "0.5"],
        [HOSTILE[0], "", "", ""],
    ]


def test_an_empty_folder_is_one_line(kronbench, tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        code, _, err = kronbench("report", folder)
        assert code == 2
        assert err.startswith(f"error: {folder}: ")
        assert err.count("\n") == 1


def test_what_cannot_be_read_is_said(kronbench, tmp_path):
    write_run(tmp_path / "one", "sgd", 0)
    (tmp_path / "one" / "runs" / "broken.jsonl").write_text("[]\n")
    (tmp_path / "one" / "runs" / "other.jsonl").write_text('{"kind": "header", "schema": 99}\n')
    code, out, err = kronbench("report", tmp_path)
    assert code == 0
    assert out.startswith("1 runs of 1 experiments")
    assert err.count("not read: ") == 2
    assert "broken.jsonl, line 1: Expected `object`, got `array`" in (tmp_path / "site" / "index.html").read_text()


def test_two_thousand_runs_take_less_than_twenty_seconds(tmp_path):
    """Of the processor's time, which a busy machine leaves as it is; two experiments, 40 epochs."""
    for method in range(5):
        write_run(tmp_path / "one", f"method{method}", 0, speed=1 + method / 5, epochs=40)
        (path,) = (tmp_path / "one" / "runs").glob("*.jsonl")
        text = as_schema_2(path.read_text())
        path.unlink()
        for experiment in range(2):
            for seed in range(200):  # by hand: the writer waits for the disk at every line
                copy = tmp_path / f"experiment{experiment}" / "runs" / f"{method}-{seed}.jsonl"
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(text.replace('"seed":0', f'"seed":{seed}'))
    before = time.process_time()
    found = collect(tmp_path)
    build(found, tmp_path / "out")
    assert sum(len(experiment.records) for experiment in found.experiments) == 2000
    assert time.process_time() - before < 20


def test_the_readme_has_the_headline_of_the_records():
    """`kronbench report --readme README.md` writes it."""
    (experiment,) = (one for one in collect(ROOT / "results").experiments if one.name == PREFERRED)
    picture = "results/published/digits-cross-entropy/headline"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_headline(text, readme_block(experiment, picture)) == text
    for suffix in (".svg", "-dark.svg"):
        assert (ROOT / f"{picture}{suffix}").exists()


def test_a_text_without_marks_is_refused():
    with pytest.raises(ValueError, match="once each"):
        with_headline("no marks", "block")


def test_training_needs_neither_plotly_nor_jinja2():
    commands = ", ".join(f"suites.harness.commands.{name}" for name in ("compare", "gpu", "reproduce", "tune"))
    code = f"import sys; sys.modules |= {{'plotly': None, 'jinja2': None}}; import {commands}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_reading_needs_no_torch():
    commands = (
        "suites.harness.cli, suites.harness.commands.diff, suites.harness.commands.report, suites.harness.show.page"
    )
    code = f"import sys, {commands}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_column_of_the_matrix_has_the_name_without_its_library_unless_two_have_it(tmp_path):
    specs = (
        "heavyball.SOAP",
        "pytorch_optimizer.SOAP",
        "a.ScalableShampoo",
        "heavyball.PSGDKron",
        "./mine.py",
        "b.py",
        "kfac",
    )
    for number, spec in enumerate(specs):
        last = point(1, test_accuracy=0.99, gradient_equivalents=1.0)
        write(tmp_path / "one" / "runs" / f"{number}.jsonl", header(optimizer=spec, epochs=1), [point(0), last])
    titles = overview(collect(tmp_path).experiments).counting.titles
    assert titles == {
        "KFAC": "KFAC",
        "./mine.py": "./mine.py",
        "a.ScalableShampoo": "Scalable Shampoo",
        "b.py": "b.py",
        "heavyball.PSGDKron": "PSGDKron",
        "heavyball.SOAP": "heavyball.SOAP",
        "pytorch_optimizer.SOAP": "pytorch_optimizer.SOAP",
    }
