"""Figures 1-12: which methods they show, what they write, and that they take each other's runs."""

import csv
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure as Canvas
from typer.testing import CliRunner

from suites.harness.cli import app
from suites.harness.records.config import write_config
from suites.harness.records.record import Record, read
from suites.harness.reproduce.draw import draw, lines_of
from suites.harness.reproduce.figures import FIGURE_SCALES, FIGURES
from suites.harness.reproduce.request import Request
from suites.harness.show.pictures import _mark

_SMOKE = replace(FIGURE_SCALES["cifar10"]["smoke"], epochs=2)


def _drawn(name, folder, scale=_SMOKE):
    figure = FIGURES[name]
    done = draw(figure, scale, lines_of(figure, scale, "cpu", None), Request("smoke", folder))
    return done.records, done.text


@pytest.fixture(scope="module")
def figure1(tmp_path_factory):
    """Its folder, records and text."""
    folder = tmp_path_factory.mktemp("figure1")
    return folder, *_drawn("figure1", folder)


def test_twelve_figures_cover_both_data_sets_and_criteria():
    """1-8 in pairs, one against seconds and one against epochs; 9-12 once for each problem."""
    assert list(FIGURES) == [f"figure{number}" for number in range(1, 13)]
    problems = [(f.dataset, f.criterion) for f in FIGURES.values()]
    assert len(set(problems)) == 4
    for first in range(0, 8, 2):
        assert problems[first] == problems[first + 1]
    assert problems[8:] == problems[0:8:2]
    assert [f.against for f in FIGURES.values()][:2] == [("seconds",), ("epochs",)]


@pytest.mark.parametrize("name", FIGURES)
def test_methods_of_a_figure(name):
    """The full product of curvatures and solvers; no Gauss-Newton with Eq. (14); KFI twice where factors do not fit."""
    figure = FIGURES[name]
    specs = {method.spec for method in figure.methods}
    convex, wide = figure.criterion == "cross-entropy", figure.dataset == "imagenet10"
    curvatures = {"fisher", "pch1"} | ({"gauss_newton"} if convex else set()) if figure.with_sgd else {"pch1", "pch2"}
    forms = ["kfi[inverse=rank_one]", "kfi[inverse=gram]"] if wide else ["kfi"]
    assert specs - {"sgd"} == {f"{curvature}+{solver}" for curvature in curvatures for solver in [*forms, "ea_cg"]}
    assert ("sgd" in specs) == figure.with_sgd
    assert {m.spec for m in figure.methods if m.dashed} == {spec for spec in specs if "gram" in spec}


def test_a_figure_writes_picture_data_and_table(figure1):
    folder, records, text = figure1
    methods = [method.label for method in FIGURES["figure1"].methods]
    assert len(records) == len(methods) * _SMOKE.seeds
    assert {f"figure1.{suffix}" for suffix in ("png", "svg", "csv", "md")} <= {p.name for p in folder.iterdir()}
    assert (folder / "figure1.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "figure1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) * (_SMOKE.epochs + 1)
    for record in records:  # every point is that of its method and seed
        own = [r for r in rows if r["optimizer"] == record.experiment["optimizer"]]
        own = [r for r in own if int(r["seed"]) == record.experiment["seed"]]
        assert [float(r["train_loss"]) for r in own] == [point["train_loss"] for point in record.points]
        assert [float(r["seconds"]) for r in own] == [point["training_seconds"] for point in record.points]
    assert (folder / "figure1.md").read_text() == text
    assert "digits in place of cifar10" in text.splitlines()[0]
    for method in methods:
        assert re.search(rf"^\| {re.escape(method)} +\|", text, re.MULTILINE)


def test_figures_take_each_others_runs(figure1):
    """Figure 2 shows the runs of Figure 1; of Figure 9 only those with PCH-2 are new."""
    folder, first, _ = figure1
    runs = folder / "digits-cross-entropy" / "runs"
    written = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    second, _ = _drawn("figure2", folder)
    assert [record.path for record in second] == [record.path for record in first]
    _drawn("figure9", folder)
    kept = {path.name: path.stat().st_mtime_ns for path in runs.iterdir() if "pch2" not in path.name}
    assert kept == written
    assert len([path for path in runs.iterdir() if "pch2" in path.name]) == 2 * _SMOKE.seeds


@pytest.mark.parametrize(("accuracies", "where"), [([0.2, 0.5, 0.6], 1), ([0.2, 0.2, 0.6], None)])
def test_the_ring_stands_where_half_of_the_runs_reach_the_target(accuracies, where):
    """Runs that never reach it count: with two of three there is none."""
    group = [
        Record(None, {}, [{"epoch": e, "test_accuracy": accuracy * (e >= 1)} for e in range(4)], None)
        for accuracy in accuracies
    ]
    axes = Canvas().subplots()
    _mark(axes, group, "epochs", 0.45, "black")
    assert [line.get_xydata().tolist() for line in axes.lines] == ([[[where, 0.45]]] if where else [])


def test_the_command_line_draws_with_tuned_settings(tmp_path):
    """Each method with its own options and batch size, from what ``tune`` wrote; what is missing is one line."""
    call = CliRunner().invoke
    shared = ["reproduce", "figure9", "--epochs", "1", "--seeds", "1", "--output", str(tmp_path / "out")]
    for method in FIGURES["figure9"].methods:
        refused = call(app, [*shared, "--tuned", str(tmp_path)])
        assert refused.exit_code == 2
        assert refused.output.count("\n") == 1
        assert not (tmp_path / "out").exists()
        spec = f"{method.spec}[lr=0.3]"
        flags = {"optimizer": [spec], "dataset": "digits", "criterion": "cross-entropy", "batch_size": 479}
        write_config(tmp_path / f"{method.spec}.toml", flags)
    drawn = call(app, [*shared, "--tuned", str(tmp_path)])
    assert drawn.exit_code == 0, drawn.output
    records = [read(path) for path in (tmp_path / "out" / "digits-cross-entropy" / "runs").iterdir()]
    assert {record.experiment["optimizer"] for record in records} == {
        f"{method.spec}[lr=0.3]" for method in FIGURES["figure9"].methods
    }
    assert {record.experiment["batch_size"] for record in records} == {479}
    title = (tmp_path / "out" / "figure9.md").read_text().splitlines()[0]
    assert "batch 479; every method tuned on held-out images" in title


@pytest.mark.usefixtures("quick_workers")
def test_jobs_give_the_same_numbers(without_times, tmp_path):
    """Two processes draw what one does, but for seconds."""
    for jobs in ("1", "2"):
        flags = ["--epochs", "1", "--seeds", "1", "--jobs", jobs, "--output", str(tmp_path / jobs)]
        drawn = CliRunner().invoke(app, ["reproduce", "figure9", *flags])
        assert drawn.exit_code == 0, drawn.output
    one, two = (
        {p.name: list(map(without_times, read(p).points)) for p in (tmp_path / jobs).rglob("*.jsonl")}
        for jobs in ("1", "2")
    )
    assert one == two
