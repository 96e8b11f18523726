"""Figures 1-12: which methods they show, what they write, and that they take each other's runs."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas

from suites.harness.data.tuned import write_tuned
from suites.harness.records.config import read_toml
from suites.harness.records.facts import End
from suites.harness.records.journal import Journal
from suites.harness.records.record import read
from suites.harness.reproduce.figures import FIGURE_SCALES, draw, lines_of
from suites.harness.reproduce.figures import RESULTS as FIGURES
from suites.harness.reproduce.request import Request
from suites.harness.reproduce.tables2to5 import SCALES
from suites.harness.show.pictures import _mark
from tests.example_records import TUNED, header, point

_SMOKE = replace(FIGURE_SCALES["cifar10"]["smoke"], epochs=2)


def _drawn(name, folder, scale=_SMOKE):
    figure = FIGURES[name]
    request = Request("smoke", folder, device="cpu")
    done = draw(figure, scale, lines_of(figure, scale, request), request)
    return done.records, done.text


@pytest.fixture(scope="module")
def figure1(tmp_path_factory):
    """Its folder, records and text."""
    folder = tmp_path_factory.mktemp("figure1")
    return folder, *_drawn("figure1", folder)


def test_the_figures_are_numbered_as_in_the_paper():
    """The paper's captions; which of 1-8 are wall clock and which are epochs it says in its text."""
    captions = {
        1: ("cross-entropy", "cifar10", ("seconds",)),
        2: ("cross-entropy", "imagenet10", ("seconds",)),
        3: ("cross-entropy", "cifar10", ("epochs",)),
        4: ("cross-entropy", "imagenet10", ("epochs",)),
        5: ("bounded", "cifar10", ("seconds",)),
        6: ("bounded", "imagenet10", ("seconds",)),
        7: ("bounded", "cifar10", ("epochs",)),
        8: ("bounded", "imagenet10", ("epochs",)),
        9: ("cross-entropy", "cifar10", ("seconds", "epochs")),
        10: ("cross-entropy", "imagenet10", ("seconds", "epochs")),
        11: ("bounded", "cifar10", ("seconds", "epochs")),
        12: ("bounded", "imagenet10", ("seconds", "epochs")),
    }
    assert {number: (f.criterion, f.dataset, f.against) for number, f in enumerate(FIGURES.values(), 1)} == captions
    assert list(FIGURES) == [f"figure{number}" for number in captions]


PUBLISHED = sorted(Path(__file__).parents[1].glob("results/published/figures-*/*/figure*.md"))


@pytest.mark.parametrize("page", PUBLISHED, ids=lambda page: f"{page.parts[-3]}-{page.stem}")
def test_published_figures_have_the_papers_numbers(page):
    """Folder, title and command of each; the pictures lie beside them."""
    figure, folder = FIGURES[page.stem], page.parent
    assert folder.name == f"{figure.dataset}-{figure.criterion}"
    assert page.read_text().startswith(f"# Figure {figure.number}: {figure.criterion}, {figure.dataset} (scale ")
    flags = read_toml(folder / f"{figure.name}.toml")
    assert (flags["name"], flags["output"]) == (figure.name, f"results/published/{folder.parent.name}")
    for suffix in ("png", "svg", "csv"):
        assert (folder / f"{figure.name}.{suffix}").exists()
    drawn = (folder / f"{figure.name}.svg").read_text()
    assert f"Figure {figure.number}: " in drawn
    for axis, label in (("seconds", "seconds of training"), ("epochs", "epochs")):
        assert bool(re.search(f"(<!-- |>){label}( -->|<)", drawn)) == (axis in figure.against)


def test_the_scale_called_paper_is_the_papers():
    """200 epochs, on the figure's own data; tables take the mean over all training images."""
    for scales in FIGURE_SCALES.values():
        assert (scales["paper"].epochs, scales["paper"].dataset) == (200, None)
    assert (SCALES["paper"].images, SCALES["paper"].dataset) == (None, None)


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


def test_a_figure_writes_picture_data_and_table(figure1):
    folder, records, text = figure1
    methods = [method.label for method in FIGURES["figure1"].methods]
    assert len(records) == len(methods) * _SMOKE.seeds
    folder = folder / "digits-cross-entropy"
    names = {f"figure1.{suffix}" for suffix in ("png", "svg", "csv", "md", "toml")} | {"runs"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "figure1.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "figure1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) * (_SMOKE.epochs + 1)
    drawn = {(r["method"], r["optimizer"]) for r in rows}
    assert drawn == {(method.label, method.spec) for method in FIGURES["figure1"].methods}
    flags = read_toml(folder / "figure1.toml")
    assert [flags[name] for name in ("seeds", "epochs", "device")] == [_SMOKE.seeds, _SMOKE.epochs, "cpu"]
    for record in records:  # every point is that of its method and seed
        own = [r for r in rows if r["optimizer"] == record.experiment.optimizer]
        own = [r for r in own if int(r["seed"]) == record.experiment.seed]
        assert [float(r["train_loss"]) for r in own] == [point.train_loss for point in record.points]
        assert [float(r["seconds"]) for r in own] == [point.training_seconds for point in record.points]
    assert (folder / "figure1.md").read_text() == text
    assert "digits in place of cifar10" in text.splitlines()[0]
    for method in methods:
        assert re.search(rf"^\| {re.escape(method)} +\|", text, re.MULTILINE)


def test_figures_take_each_others_runs(figure1):
    """Figure 3 shows the runs of Figure 1; of Figure 9 only those with PCH-2 are new."""
    folder, first, _ = figure1
    runs = folder / "digits-cross-entropy" / "runs"
    written = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    second, _ = _drawn("figure3", folder)
    assert [record.path for record in second] == [record.path for record in first]
    _drawn("figure9", folder)
    kept = {path.name: path.stat().st_mtime_ns for path in runs.iterdir() if "pch2" not in path.name}
    assert kept == written
    assert len([path for path in runs.iterdir() if "pch2" in path.name]) == 2 * _SMOKE.seeds


@pytest.mark.parametrize(("accuracies", "where"), [([0.2, 0.5, 0.6], 1), ([0.2, 0.2, 0.6], None)])
def test_the_ring_stands_where_half_of_the_runs_reach_the_target(accuracies, where):
    """Runs that never reach it count: with two of three there is none."""
    group = [
        Journal(
            Path("run.jsonl"),
            header(epochs=3),
            [point(epoch, test_accuracy=accuracy * (epoch >= 1)) for epoch in range(4)],
            End(status="finished"),
        )
        for accuracy in accuracies
    ]
    axes = Canvas().subplots()
    _mark(axes, group, "epochs", 0.45, "black")
    assert [line.get_xydata().tolist() for line in axes.lines] == ([[[where, 0.45]]] if where else [])


def test_the_command_line_draws_with_tuned_settings(kronbench, tmp_path):
    """Each method with its own options and batch size, from what ``tune`` wrote; what is missing is one line."""
    specs = [method.spec for method in FIGURES["figure9"].methods]
    command = ["reproduce", "figure9", "--epochs", 1, "--seeds", 1, "--output", tmp_path / "out"]
    command += ["--tuned", tmp_path / "tuned.toml"]
    of_digits = replace(TUNED, network=(64, 64, 32, 16, 10), batch_size=479, options={"lr": 0.3})
    for spec in specs:
        code, _, error = kronbench(*command)
        assert (code, error.count("\n")) == (2, 1)
        assert not (tmp_path / "out").exists()
        write_tuned(tmp_path / "tuned.toml", [replace(of_digits, optimizer=spec)])
    code, _, error = kronbench(*command)
    assert code == 0, error
    records = [read(path) for path in (tmp_path / "out" / "digits-cross-entropy" / "runs").iterdir()]
    assert {record.experiment.optimizer for record in records} == {f"{spec}[lr=0.3]" for spec in specs}
    assert {record.experiment.batch_size for record in records} == {479}
    page = tmp_path / "out" / "digits-cross-entropy" / "figure9.md"
    before = page.read_text()
    assert "batch 479; every method tuned on held-out images" in before.splitlines()[0]
    page.unlink()
    assert kronbench("reproduce", "--config", page.with_suffix(".toml"))[0] == 0  # its flags, and nothing else
    assert page.read_text() == before


@pytest.mark.usefixtures("quick_workers")
def test_jobs_give_the_same_numbers(kronbench, without_times, tmp_path):
    """Two processes draw what one does, but for seconds."""

    def drawn(jobs):
        flags = ["--epochs", 1, "--seeds", 1, "--jobs", jobs, "--output", tmp_path / jobs]
        assert kronbench("reproduce", "figure9", *flags)[0] == 0
        return {p.name: list(map(without_times, read(p).points)) for p in (tmp_path / jobs).rglob("*.jsonl")}

    assert drawn("1") == drawn("2")
