"""What is one experiment, and which target counts for its runs."""

from dataclasses import replace

import pytest

from suites.harness.data.problem import target_of
from suites.harness.records.facts import Gpu, ProblemFacts
from suites.harness.records.groups import Setup, experiments, hardest_reached, to_reach
from suites.harness.records.record import read
from tests.example_records import ENVIRONMENT, header, point, write

PROBLEM = ProblemFacts(metric="test accuracy", unit="", larger_is_better=True, targets=(0.5,), source="one")


@pytest.fixture
def record(tmp_path):
    """A builder of records that are read back: accuracies of their points, status, and facts of their headers."""
    count = iter(range(1000))

    def build(accuracies=(0.1, 0.1, 0.1), status="finished", ended=None, head=None, **experiment):
        path = tmp_path / f"{next(count)}.jsonl"
        facts = header(**{"epochs": len(accuracies) - 1, **experiment})
        points = [point(epoch, test_accuracy=accuracy) for epoch, accuracy in enumerate(accuracies)]
        write(path, replace(facts, **(head or {})), points, status, ended=ended)
        return read(path)

    return build


@pytest.mark.parametrize(
    "other",
    [
        {"accuracies": (0.1,) * 4},  # and so another number of epochs
        {"budget_seconds": 60.0},
        {"train_images": 1000},
        {"test_images": 100},
        {"synthetic": True},
        {"batch_size": 50},
        {"network": (64, 32, 10)},
        {"activation": "tanh"},
        {"criterion": "bounded"},
        {"dataset": "cifar10"},
        {"schedule": "cosine"},
        {"dtype": "float64"},
        {"device": "cuda"},
        {"cuda_graph": True},
        {"validation": 0.2},
        {"options": {"lr": 0.2}},
        {"head": {"source": "the text of a user's optimizer"}},
        {"head": {"problem": PROBLEM}},
        {"head": {"code": "0123456789ab"}},
        {"head": {"environment": replace(ENVIRONMENT, cpu="Xeon")}},
        {"head": {"environment": replace(ENVIRONMENT, threads=1)}},
        {"head": {"environment": replace(ENVIRONMENT, torch="2.11")}},
        {"head": {"environment": replace(ENVIRONMENT, gpu=Gpu(name="H100", memory_bytes=1, cuda=None, tf32=False))}},
    ],
    ids=lambda other: str(other)[:40],
)
def test_runs_with_one_other_field_are_another_experiment(record, other):
    old, new = [record(seed=seed, ended="2026-01-01") for seed in (0, 1)], record(seed=0, ended="2026-01-02", **other)
    groups = experiments([*old, new])
    assert [group.records for group in groups] == [[new], old]


def test_a_setup_in_words(record):
    assert str(Setup.of(record((0.1,) * 4, batch_size=50))) == (
        "digits (1437 + 360 images), cross-entropy, sigmoid, 64-10, batch 50, float32, 3 epochs"
    )


def test_optimizers_seeds_and_commits_of_the_same_code_are_one_experiment(record):
    git = replace(ENVIRONMENT, git=replace(ENVIRONMENT.git, commit="f" * 40))
    runs = [
        record(seed=0, head={"code": "0123456789ab"}),
        record(seed=1, head={"code": "0123456789ab", "environment": git}),
        record(optimizer="kfac", options={"damping": 0.1}, head={"code": "0123456789ab"}),
        record(optimizer="mine", head={"code": "0123456789ab", "source": "text"}),
    ]
    (group,) = experiments(runs)
    assert group.records == runs


def test_an_old_text_of_an_optimizer_stands_alone(record):
    """The newest goes with the runs of the others."""
    sgd = record(ended="2026-01-01")
    old = record(optimizer="mine", head={"source": "old"}, ended="2026-01-02")
    new = record(optimizer="mine", head={"source": "new"}, ended="2026-01-03")
    assert [group.records for group in experiments([old, sgd, new])] == [[new, sgd], [old]]


def test_another_version_of_an_optimizers_package_stands_alone(record):
    """The others are not split by it."""
    environments = [replace(ENVIRONMENT, packages={"heavyball": version}) for version in ("3.2", "3.3")]
    sgd = record(ended="2026-01-01")
    old, new = (
        record(optimizer="heavyball.SOAP", head={"environment": one}, ended=f"2026-01-0{day}")
        for day, one in enumerate(environments, start=2)
    )
    assert [group.records for group in experiments([old, sgd, new])] == [[new, sgd], [old]]


@pytest.mark.parametrize("status", ["failed", "diverged", "at chance"])
def test_a_run_that_did_not_finish_well_reaches_no_target(record, status):
    run = record((0.1, 0.99, 0.99), status=status)
    assert to_reach(run, 0.5, "epoch") == float("inf")
    assert hardest_reached([run], (0.95, 0.97)) == 0.95


def test_the_hardest_target_is_one_that_most_runs_of_somebody_reached(record):
    """Then its median is finite."""
    well, middling, badly = (0.1, 0.96, 0.98), (0.1, 0.5, 0.96), (0.1, 0.1, 0.2)
    assert hardest_reached([record(badly)], (0.97, 0.95)) == 0.95
    assert hardest_reached([record(badly), record(middling, optimizer="kfac")], (0.95, 0.97)) == 0.95
    assert hardest_reached([record(badly), record(well, optimizer="kfac")], (0.95, 0.97)) == 0.97
    assert hardest_reached([record(well, seed=0), record(middling, seed=1)], (0.95, 0.97)) == 0.95
    assert hardest_reached([record(well, seed=s) for s in (0, 1)] + [record(middling, seed=2)], (0.95, 0.97)) == 0.97


def test_the_targets_that_a_configuration_gives_come_first(record):
    """But a number alone, in an old one, may be the easiest of the problem, written where nobody gave any."""
    runs = [record((0.1, 0.96, 0.98))]
    assert target_of(runs) == target_of(runs, 0.95) == 0.97
    assert target_of(runs, [0.95]) == 0.95
    assert target_of(runs, 0.9) == 0.9
