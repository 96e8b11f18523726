"""The grid search: what is tried, on which images, by which rule the best is found, and what it cost."""

import json
from dataclasses import replace

import pytest
import torch

from suites.harness import tune
from suites.harness.experiments import Problem, Settings
from suites.harness.records import read

SETTINGS = Settings(device="cpu", network=(64, 16, 10))
FLAGS = ["--network", "64,16,10", "--epochs", 2, "--batch-size", "100,500", "--lr", "0.001,0.2", "--damping", "0.01"]


@pytest.mark.parametrize(
    ("method", "count"), [("sgd", 9), ("kfac", 36), ("ea_cg", 576), ("ea_cg[gamma=0,lr=0.1]", 192)]
)
def test_the_grid_is_the_papers(method, count):
    found = tune.settings_of(method)
    assert len({(setting.choice.spec, setting.batch_size) for setting in found}) == len(found) == count
    if "gamma" in method:
        assert {(setting.choice.options["gamma"], setting.choice.options["lr"]) for setting in found} == {(0, 0.1)}


def test_validation_images_are_held_out():
    """As many of each class, none of them trained on, and none of the test set."""
    whole, held = Problem.load(SETTINGS).dataset, Problem.load(replace(SETTINGS, validation=0.2)).dataset
    assert len(held.train) + len(held.test) == len(whole.train)
    together = torch.cat([held.train.images, held.test.images]).unique(dim=0)
    assert torch.equal(together, whole.train.images.unique(dim=0))
    for label in range(10):
        share = (held.test.labels == label).sum() / (whole.train.labels == label).sum()
        assert share == pytest.approx(0.2, abs=0.01)


def test_the_best_is_found_and_compared(kronbench, tmp_path):
    """A learning rate that learns beats one that does not; compare reads what was written."""
    code, out, error = kronbench("tune", *FLAGS, "--optimizer", "sgd", "--optimizer", "kfac", "--output", tmp_path)
    assert code == 0, error
    assert "kfac[lr=0.2,damping=0.01]" in out
    cost = json.loads((tmp_path / "kfac.json").read_text())
    records = [read(path) for path in (tmp_path / "runs").glob("kfac*.jsonl")]
    assert (cost["settings"], cost["runs"], len(records)) == (4, 4, 4)
    assert cost["training_seconds"] == pytest.approx(sum(r.points[-1]["training_seconds"] for r in records))
    best = max(records, key=lambda record: record.points[-1]["test_accuracy"])
    assert cost["validation_accuracy"] == best.points[-1]["test_accuracy"]
    assert {record.experiment["seed"] for record in records} == {tune.FIRST_SEED}
    assert {record.experiment["validation"] for record in records} == {tune.VALIDATION}
    flags = ["--config", tmp_path / "kfac.toml", "--seeds", 1, "--output", tmp_path / "compared"]
    code, out, error = kronbench("compare", *flags)
    assert code == 0, error
    (record,) = [read(path) for path in (tmp_path / "compared" / "runs").iterdir()]
    assert (record.experiment["optimizer"], record.experiment["batch_size"]) == (cost["setting"], cost["batch_size"])
    assert record.experiment["validation"] == 0


def test_what_diverges_is_never_the_best(kronbench, tmp_path):
    flags = [*FLAGS, "--lr", "1e30,0.1", "--activation", "relu", "--optimizer", "sgd"]
    code, out, error = kronbench("tune", *flags, "--output", tmp_path)
    assert code == 0, error
    assert "sgd[lr=0.1]" in out
    code, _, error = kronbench("tune", *flags, "--lr", "1e30", "--output", tmp_path / "none")
    assert code == 2
    assert "no setting of sgd finished" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "a"], "lr must be numbers"),
        (["--damping", "2"], "damping must be in (0, 1)"),
        (["--batch-size", "1400"], "batch size must be from 1"),
        (["--optimizer", "kfcc"], "did you mean 'kfac'"),
        (["--jobs", "0"], "jobs must be 1 or more"),
    ],
)
def test_bad_input_is_one_line(kronbench, tmp_path, arguments, message):
    code, out, error = kronbench("tune", *arguments, "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
