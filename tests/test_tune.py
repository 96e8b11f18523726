"""The grid search: what is tried, on which images, by which rule the best is found, and what it cost."""

import json
from dataclasses import replace
from statistics import median
from types import SimpleNamespace
from unittest.mock import ANY

import pandas as pd
import pytest
import torch

from suites.harness.names import TUNED, method_of
from suites.harness.problems import digits
from suites.harness.records.groups import to_reach
from suites.harness.records.record import read
from suites.harness.training import parallel
from suites.harness.training.experiment import Settings, Task
from suites.harness.tuning import search
from suites.harness.tuning.grid import GRID
from suites.harness.tuning.halving import halve, rungs
from suites.harness.tuning.rerun import rerun

SETTINGS = Settings(device="cpu", network=(64, 16, 10))
FLAGS = ["--network", "64,16,10", "--epochs", 2, "--batch-size", "100,500", "--lr", "0.001,0.2", "--damping", "0.01"]


def _records(folder, method):
    return [read(path) for path in sorted((folder / "runs").glob(f"{method}*.jsonl"))]


def _cost(folder, method):
    return json.loads((folder / f"{method}.json").read_text())


def test_the_grid_is_as_the_paper_prints_it():
    """Learning rate, |Batch|, alpha, max|CG| and epsilon_CG, of its section on experiments."""
    settings = search.settings_of("ea_cg")
    assert {setting.batch_size for setting in settings} == {100, 500, 1000}
    printed = {
        "lr": {0.05, 0.1, 0.2},
        "damping": {0.01, 0.02, 0.05, 0.1},
        "max_iter": {5, 10, 20, 50},
        "tolerance": {1e-10, 1e-5, 1e-2, 1e-1},
    }
    assert {name: {setting.choice.options[name] for setting in settings} for name in printed} == printed


@pytest.mark.parametrize(
    ("method", "count"), [("sgd", 9), ("kfac", 36), ("ea_cg", 576), ("ea_cg[gamma=0,lr=0.1]", 192)]
)
def test_the_grid_is_the_papers(method, count):
    found = search.settings_of(method)
    assert len({(setting.choice.spec, setting.batch_size) for setting in found}) == len(found) == count
    if "gamma" in method:
        assert {(setting.choice.options["gamma"], setting.choice.options["lr"]) for setting in found} == {(0, 0.1)}


def test_a_method_is_named_without_what_the_grid_varies():
    assert set(GRID) == set(TUNED)
    assert method_of("ea_cg[gamma=0,lr=0.1,damping=0.02,max_iter=5,tolerance=0.1]") == "ea_cg[gamma=0]"
    assert method_of("sgd[lr=0.1]") == method_of("sgd") == "sgd"


def test_validation_images_are_held_out():
    """As many of each class, none of them trained on, and none of the test set."""
    whole, held = Task.load(SETTINGS).dataset, Task.load(replace(SETTINGS, validation=0.2)).dataset
    assert len(held.train) + len(held.test) == len(whole.train)
    together = torch.cat([held.train.images, held.test.images]).unique(dim=0)
    assert torch.equal(together, whole.train.images.unique(dim=0))
    for label in range(10):
        share = (held.test.labels == label).sum() / (whole.train.labels == label).sum()
        assert share == pytest.approx(0.2, abs=0.01)


def test_the_best_is_found_and_compared(kronbench, tmp_path):
    """A learning rate that learns beats one that does not; compare reads what was written."""
    flags = [*FLAGS, "--optimizer", "sgd", "--optimizer", "kfac", "--rerun", 0, "--output", tmp_path]
    code, out, error = kronbench("tune", *flags)
    assert code == 0, error
    assert "kfac[lr=0.2,damping=0.01]" in out
    assert not (tmp_path / "best").exists()
    cost, records = _cost(tmp_path, "kfac"), _records(tmp_path, "kfac")
    assert (cost["rungs"], cost["runs"], len(records)) == ([[4, 2]], 4, 4)
    best = max(records, key=lambda record: record.points[-1].test_accuracy)
    assert cost["validation_accuracy"] == best.points[-1].test_accuracy
    assert {record.experiment.seed for record in records} == {1000}
    assert {record.experiment.validation for record in records} == {0.2}
    flags = ["--config", tmp_path / "kfac.toml", "--seeds", 1, "--output", tmp_path / "compared"]
    code, out, error = kronbench("compare", *flags)
    assert code == 0, error
    (record,) = [read(path) for path in (tmp_path / "compared" / "runs").iterdir()]
    assert (record.experiment.optimizer, record.experiment.batch_size) == (cost["setting"], cost["batch_size"])
    assert record.experiment.validation == 0


UNFINISHED = (1.0, 0.0, False)


@pytest.mark.parametrize(
    ("runs", "best"),  # of each setting: accuracy, loss and whether it finished, one run a seed
    [
        ([[(0.5, 0.1, True)], [(0.9, 9.0, True)]], 1),  # accuracy first, whatever the loss
        ([[(0.9, 0.3, True)], [(0.9, 0.2, True)]], 1),  # of equals the lowest loss
        ([[(0.9, 0.2, True)], [(0.9, 0.3, True)]], 0),
        ([[(0.5, 0.2, True)], [(0.9, 0.3, True)], [(0.9, 0.3, True)]], 1),  # then the first in the grid
        ([[(0.9, None, True)], [(0.9, 9.0, True)]], 1),  # a loss that is not finite is the highest
        ([[UNFINISHED], [(0.1, 9.0, True)]], 1),
        ([[(0.9, 0.1, True), UNFINISHED], [(0.1, 9.0, True), (0.1, 9.0, True)]], 1),  # one run is enough
        ([[(0.5, 1, True), (0.5, 1, True), (1.0, 1, True)], [(0.6, 1, True), (0.6, 1, True), (0.0, 1, True)]], 1),
        ([[(0.5, 1, True), (0.5, 1, True), (0.5, 9, True)], [(0.5, 2, True), (0.5, 2, True), (0.5, 2, True)]], 0),
    ],
)
def test_the_rule(monkeypatch, tmp_path, runs, best):
    """Medians over the seeds: of accuracy, then of loss."""
    asked = []

    def trained(jobs, workers, on_done):
        asked.extend(job.seed for job in jobs)
        found = []
        for place in range(len(jobs)):
            accuracy, loss, completed = runs[place % len(runs)][place // len(runs)]
            last = {"test_accuracy": accuracy, "test_loss": loss}
            cost = {"epoch": 3, "training_seconds": 2.0, "gradient_equivalents": 5.0}
            points = [SimpleNamespace(**last, **cost)]
            found.append(SimpleNamespace(completed=completed, points=points, path=tmp_path, reason="none"))
        return found

    monkeypatch.setattr(search, "run_jobs", trained)
    grid = search.settings_of("sgd", {"lr": [0.1 * (1 + place) for place in range(len(runs))]}, [100])
    found = search.tune(SETTINGS, grid, len(runs[0]), 3, 3, tmp_path)
    assert found.setting is grid[best]
    count = sum(map(len, runs))
    assert (found.runs, found.epochs, found.training_seconds, found.gradient_equivalents) == (
        count,
        3 * count,
        2 * count,
        5 * count,
    )
    assert found.unfinished == sum(run == UNFINISHED for own in runs for run in own)
    assert (found.validation_accuracy, found.validation_loss) == tuple(
        median(run[column] for run in runs[best]) for column in (0, 1)
    )
    assert min(asked) >= 1000  # no comparison has a thousand seeds: its own are fresh
    assert len(set(asked)) == len(runs[0])


def test_halving_finds_the_best_of_the_grid_in_fewer_epochs(kronbench, tmp_path):
    """Nine settings of which one learns fast: 9 train one epoch, 3 three, 1 nine; the grid has 9 times 9 epochs."""
    flags = ["--network", "64,16,10", "--epochs", 9, "--batch-size", "100", "--rerun", 0, "--optimizer", "sgd"]
    flags += ["--lr", "1e-6,2e-6,3e-6,4e-6,0.2,5e-6,6e-6,7e-6,0.02"]
    for name, how in (("grid", []), ("halving", ["--halving"])):
        code, _, error = kronbench("tune", *flags, *how, "--output", tmp_path / name)
        assert code == 0, error
    grid, halved = _cost(tmp_path / "grid", "sgd"), _cost(tmp_path / "halving", "sgd")
    assert grid["setting"] == halved["setting"] == "sgd[lr=0.2]"
    assert grid["validation_accuracy"] == halved["validation_accuracy"]
    assert (grid["rungs"], halved["rungs"]) == ([[9, 9]], [[9, 1], [3, 3], [1, 9]])
    for folder, cost, epochs in ((tmp_path / "grid", grid, 81), (tmp_path / "halving", halved, 27)):
        last = [record.points[-1] for record in _records(folder, "sgd")]
        assert cost["epochs"] == sum(point.epoch for point in last) == epochs
        for name in ("training_seconds", "gradient_equivalents"):
            assert cost[name] == pytest.approx(sum(getattr(point, name) for point in last))
    third = {r.experiment.options["lr"] for r in _records(tmp_path / "halving", "sgd") if len(r.points) == 1 + 3}
    assert {0.2, 0.02} < third


@pytest.mark.parametrize(
    ("count", "first", "epochs", "expected"),
    [
        (36, 1, 10, [(36, 1), (12, 3), (4, 10)]),
        (36, 4, 40, [(36, 4), (12, 13), (4, 40)]),
        (9, 1, 100, [(9, 11), (3, 33), (1, 100)]),  # no more rungs than it takes
        (2, 1, 10, [(2, 10)]),
        (1, 1, 1, [(1, 1)]),
        (36, 10, 10, [(36, 10)]),
        (36, 20, 10, [(36, 10)]),
        (36, 3, 9, [(36, 3), (12, 9)]),
        (36, 3, 8, [(36, 8)]),
        (4, 1, 10, [(4, 3), (2, 10)]),
        (28, 1, 27, [(28, 1), (10, 3), (4, 9), (2, 27)]),
    ],
)
def test_rungs(count, first, epochs, expected):
    assert rungs(count, first, epochs) == expected


@pytest.mark.parametrize("best", [0, 17, 35])
def test_halving_keeps_the_best_third(best):
    """In any place; what ranks low in the first rung is not asked for again."""
    asked = []

    def train(numbers, epochs):
        asked.append(numbers)
        return sorted(numbers, key=lambda number: abs(number - best - 0.1))

    assert halve(36, 1, 10, train) == best
    order = sorted(range(36), key=lambda number: abs(number - best - 0.1))
    assert asked == [sorted(order[:count]) for count in (36, 12, 4)]


def test_the_test_set_chooses_nothing(monkeypatch, tmp_path):
    """With every label of the test set wrong, where the worst network would look best, the choice is the same."""
    grid = search.settings_of("sgd", {"lr": (1e-6, 0.2)}, [100])
    settings = Task.load(replace(SETTINGS, validation=0.2)).settings
    found = search.tune(settings, grid, 1, 3, 3, tmp_path / "right")
    right = digits.problem

    def wrong(*given):
        arrays = right.read(*given)
        pixels, labels = arrays.test
        return arrays._replace(test=(pixels, (labels + 1) % 10))

    monkeypatch.setattr(digits, "problem", replace(right, read=wrong))
    parallel._task.cache_clear()
    try:
        again = search.tune(settings, grid, 1, 3, 3, tmp_path / "wrong")
        (tested, *_) = rerun(settings, [again], 1, 3, 0.5, tmp_path / "best").records
    finally:
        parallel._task.cache_clear()
    assert again.setting.choice.spec == found.setting.choice.spec == "sgd[lr=0.2]"
    assert again.validation_accuracy == found.validation_accuracy > 0.5
    assert tested.points[-1].test_accuracy < 0.2  # the rerun does see the test set


def test_an_interrupted_search_goes_on(tmp_path):
    """Runs that finished are taken from their records, and the result is that of a search without a break."""
    grid = search.settings_of("sgd", {"lr": (1e-6, 0.02, 0.2)}, [100])
    settings = Task.load(replace(SETTINGS, validation=0.2)).settings
    done = []

    def stop(record):
        done.append(record.path)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.tune(settings, grid, 1, 1, 3, tmp_path, on_done=stop)
    kept = {path: path.stat().st_mtime_ns for path in done}
    found = search.tune(settings, grid, 1, 1, 3, tmp_path)
    assert kept == {path: path.stat().st_mtime_ns for path in done}
    assert search.tune(settings, grid, 1, 1, 3, tmp_path) == replace(found, setting=ANY)
    assert (found.setting.choice.spec, found.rungs, found.runs) == ("sgd[lr=0.2]", [(3, 1), (1, 3)], 4)


def test_the_best_run_again_on_fresh_seeds(kronbench, tmp_path):
    """On the whole training set and the test set, each with its own batch; the cost of the search is added once."""
    flags = [*FLAGS, "--epochs", 3, "--batch-size", "50,500", "--target", 0.6, "--rerun", 2]
    flags += ["--optimizer", "sgd", "--optimizer", "kfac[lr=0.2]"]
    code, _, error = kronbench("tune", *flags, "--output", tmp_path)
    assert code == 0, error
    records = _records(tmp_path / "best", "")
    assert len(records) == 4
    assert {record.experiment.seed for record in records} == {0, 1}
    assert {record.experiment.validation for record in records} == {0}
    assert {len(Task.load(SETTINGS).dataset.train)} == {record.experiment.train_images for record in records}
    table = pd.read_csv(tmp_path / "best" / "table.csv")
    for (_, row), method in zip(table.iterrows(), ("sgd", "kfac_lr=0.2"), strict=True):
        cost, own = _cost(tmp_path, method), _records(tmp_path / "best", method.partition("_")[0])
        assert (row["setting"], row["batch"]) == (cost["setting"], cost["batch_size"])
        assert {record.experiment.batch_size for record in own} == {cost["batch_size"]}
        assert row["test accuracy"] == pytest.approx(median(record.points[-1].test_accuracy for record in own))
        seconds = median(to_reach(record, 0.6, "training_seconds") for record in own)
        assert row["seconds to 0.6"] == pytest.approx(seconds)
        assert row["with tuning"] == pytest.approx(seconds + cost["training_seconds"])
        added = row["gradient-equivalents with tuning"] - row["gradient-equivalents to 0.6"]
        assert added == pytest.approx(cost["gradient_equivalents"])
    text = (tmp_path / "best" / "table.md").read_text()
    assert "cover 50 %" in text
    assert "2 finished" in text
    before = {record.path: record.path.stat().st_mtime_ns for record in records}
    assert kronbench("tune", *flags, "--output", tmp_path)[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.usefixtures("quick_workers")
def test_several_workers_choose_the_same(tmp_path):
    grid = search.settings_of("sgd", {"lr": (1e-6, 0.02, 0.2)}, [100])
    settings = Task.load(replace(SETTINGS, validation=0.2)).settings
    alone, two = (
        search.tune(settings, grid, 1, 1, 3, tmp_path / str(count), workers=parallel.Workers(count)) for count in (1, 2)
    )
    assert two == replace(alone, setting=ANY, training_seconds=ANY)


def test_what_diverges_is_never_the_best(kronbench, tmp_path):
    """And a method without a setting that finishes does not keep the others from theirs."""
    flags = [*FLAGS, "--activation", "relu", "--rerun", 0, "--output", tmp_path]
    code, out, error = kronbench("tune", *flags, "--lr", "1e30,0.1", "--optimizer", "sgd")
    assert code == 0, error
    assert "sgd[lr=0.1]" in out
    assert "4, 2 did not finish" in out
    code, out, error = kronbench("tune", *flags, "--optimizer", "sgd[lr=1e30]", "--optimizer", "sgd[momentum=0.8]")
    assert code == 1
    assert "error: sgd[lr=1e+30]: no setting finished; sgd_lr=1e+30" in error
    assert "train loss is" in error
    assert "sgd[momentum=0.8,lr=0.2]" in out
    assert not (tmp_path / "sgd_lr=1e+30.toml").exists()


def test_a_tuned_setting_is_read_back(tmp_path):
    """By the name of the method, whatever characters it has."""
    mine = tmp_path / "mine.py"
    mine.write_text("from optimizers.sgd import SGD\n\nclass Mine(SGD):\n    pass\n")
    for method in ("fisher+kfi[damping=0.1]", "ea_cg[gamma=0]", str(mine), "torch.optim.Adam[lr=0.1]"):
        (setting, *_) = search.settings_of(method, {"lr": (0.3,)}, [500])
        found = search.Tuned(setting, 0.9, 0.1, [(1, 1)], 1, 0, 1, 1.0, 1.0)
        search.write_tuned(tmp_path / "out", method, replace(SETTINGS, criterion="cross-entropy"), 1, found)
        back = search.tuned_setting(tmp_path / "out", method, "digits", "cross-entropy")
        assert (back.choice.spec, back.batch_size) == (setting.choice.spec, 500)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stems = {"fisher+kfi_damping=0.1", "ea_cg_gamma=0", "mine", "torch.optim.Adam_lr=0.1"}
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("toml", "json")}
    with pytest.raises(ValueError, match="expected a setting for cifar10 with cross-entropy, found digits") as caught:
        search.tuned_setting(tmp_path / "out", str(mine), "cifar10", "cross-entropy")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"config .*kfac.toml: No such file"):
        search.tuned_setting(tmp_path / "out", "kfac", "digits", "cross-entropy")
    (tmp_path / "kfac.toml").write_text('dataset = "digits"\ncriterion = "cross-entropy"\noptimizer = ["a", "b"]\n')
    with pytest.raises(ValueError, match="expected one optimizer and a batch_size"):
        search.tuned_setting(tmp_path, "kfac", "digits", "cross-entropy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "a"], "lr must be numbers"),
        (["--damping", "2"], "damping must be in (0, 1)"),
        (["--batch-size", "1400"], "batch size must be from 1"),
        (["--optimizer", "kfcc"], "did you mean 'kfac'"),
        (["--jobs", "0"], "jobs must be 1 or more"),
        (["--rerun", "-1"], "rerun must be 0 or more"),
        (["--first-epochs", "0"], "first epochs must be 1 or more"),
        (["--first-epochs", "11", "--halving"], "at most the 10 epochs of the last rung"),
        (["--first-epochs", "2"], "add --halving"),
        (["--batch-size", "0,100"], "batch size must be 1 or more"),
        (["--target", "2"], "target must be an accuracy"),
        (["--optimizer", "sgd", "--optimizer", "sgd[]"], "optimizer given more than once"),
    ],
)
def test_bad_input_is_one_line(kronbench, tmp_path, arguments, message):
    code, out, error = kronbench("tune", *arguments, "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
