"""What is read off runs, by hand: metrics, changes seed by seed, and curves."""

import math
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from suites.harness.analysis.costs import phase_shares
from suites.harness.analysis.curves import AXES, common_end, curve, points_of
from suites.harness.analysis.metrics import METRICS, judged_by
from suites.harness.analysis.verdicts import paired
from suites.harness.records.facts import GOALS, End, Phase, ProblemFacts
from suites.harness.records.journal import Journal
from tests.example_records import header, point

ACCURACIES = (0.1, 0.5, 0.8, 0.9)


def _run(status="finished", accuracies=ACCURACIES, seed=0, **more):
    points = [point(epoch, test_accuracy=value, train_loss=2.0 - value) for epoch, value in enumerate(accuracies)]
    end = None if status is None else End(status=status, peak_state_bytes=8000)
    return Journal(Path("run.jsonl"), header(epochs=len(points) - 1, seed=seed, **more), points, end)


def _values(record, target=0.8):
    return {key: metric.ranked(record, target) for key, metric in METRICS.items()}


def test_a_run_that_finished():
    """A target is reached at the first point that is at it or above."""
    assert _values(_run()) == pytest.approx(
        {
            "train_loss": 1.1,
            "test_accuracy": 0.9,
            "test_loss": 1.1,
            "epochs": 2,
            "seconds": 0.2,
            "gradients": 28.0,
            "gradients_a_step": 1.0,
            "seconds_a_step": 0.3 / 42,
            "peak_state": 8000,
        }
    )
    assert _values(_run(), target=0.81)["epochs"] == 3
    assert _values(_run(), target=0.95)["epochs"] == math.inf
    assert _values(_run(accuracies=(0.1, 0.8, 0.9, 0.2)))["epochs"] == 1


def test_the_cost_of_a_step_is_the_mean_over_the_whole_run():
    run = _run()
    run.points[-1] = point(3, test_accuracy=0.9, gradient_equivalents=84.0, training_seconds=0.6)
    values = _values(run)
    assert (values["gradients_a_step"], values["seconds_a_step"]) == (2.0, 0.6 / 42)


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_run_that_fell_is_infinite_to_every_target(status):
    found = _values(_run(status))
    assert [found[key] for key in ("train_loss", "epochs", "seconds", "gradients")] == [math.inf] * 4
    assert found["test_accuracy"] == 0
    assert METRICS["train_loss"].of(_run(status), 0.8) is None


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_a_run_that_shared_the_machine_has_no_seconds(status):
    """In no metric, on no axis, in no phase; all else counts as ever."""
    shared, alone = _run(status, at_a_time=8), _run(status)
    left_out = {key for key, value in _values(shared).items() if value != _values(alone)[key]}
    assert left_out == {"seconds", "seconds_a_step"}
    assert [_values(shared)[key] for key in left_out] == [None, None]
    drawn = [curve([points_of(run)] * 2, attrgetter("test_accuracy")) for run in (shared, alone)]
    assert [set(one.along) for one in drawn] == [set(AXES) - {"seconds"}, set(AXES)]
    assert common_end([shared]) is None
    assert common_end([shared, alone]) == common_end([alone])
    phase = Phase(seconds_mean=1.0, seconds_p99=1.0, operations_mean=1.0, operations_p99=1.0)
    shared, alone = (
        replace(run, points=[replace(run.points[-1], phases=dict.fromkeys(names, phase))])
        for run, names in ((shared, ["solve", "update"]), (alone, ["update"]))
    )
    assert phase_shares({"sgd": [shared]}) == {}
    assert phase_shares({"sgd": [shared, alone]}) == {"sgd": {"update": 1.0}}


def test_a_run_at_chance_reached_nothing_and_its_last_numbers_count():
    found = _values(_run("at chance"))
    assert [found[key] for key in ("epochs", "seconds", "gradients")] == [math.inf] * 3
    assert (found["train_loss"], found["test_accuracy"]) == (pytest.approx(1.1), 0.9)


@pytest.mark.parametrize("status", [None, "stopped"])
def test_nothing_is_known_of_a_run_without_an_end_of_its_own(status):
    found = _values(_run(status))
    assert {value for key, value in found.items() if key != "peak_state"} == {None}
    assert METRICS["epochs"].by_seed([_run(status)], 0.8) == {}


def test_numbers_are_written_as_the_registry_says():
    seconds = METRICS["seconds"].at(0.95)
    assert (seconds.label, seconds.quantity, seconds.unit, seconds.until) == (
        "seconds to 0.95",
        "time",
        "seconds",
        "to 0.95",
    )
    assert (METRICS["train_loss"].label, METRICS["peak_state"].label) == ("train loss", "optimizer memory")
    assert METRICS["gradients_a_step"].label == "gradient-equivalents / step"
    assert METRICS["epochs"].text(math.inf) == "not reached"
    assert METRICS["epochs"].text(7.0) == "7"
    assert METRICS["train_loss"].text(0.123456) == "0.123"
    assert METRICS["peak_state"].text(77_000) == "77 kB"


@pytest.mark.parametrize(
    ("goal", "unit", "axis"),
    [
        ("test loss", "nats an image", "test loss, nats an image"),
        ("test loss", GOALS["test loss"].unit, "test loss"),  # the usual one is not said
        ("test accuracy", GOALS["test accuracy"].unit, "test accuracy"),
    ],
)
def test_what_judges_runs_has_the_unit_of_their_problem(goal, unit, axis):
    run = _run()
    facts = ProblemFacts(metric=goal, unit=unit, larger_is_better=False, targets=(1.0,), source=None)
    assert judged_by([replace(run, header=replace(run.header, problem=facts))]).axis == axis


def test_runs_of_no_problem_are_judged_by_their_accuracy():
    assert judged_by([_run()]) == METRICS["test_accuracy"]


def test_changes_are_those_of_each_seed():
    """Sorted by themselves both sides are the same; seed by seed each value doubles but one."""
    before, after = {0: 1.0, 1: 2.0, 2: 4.0}, {0: 2.0, 1: 4.0, 2: 1.0}
    change = paired(before, after)
    assert not change.same
    assert change.lacking == "too few seeds (3 of 6)"
    assert change.change == (2.0, 0.25, 2.0)
    assert paired({0: 1.0, 1: 2.0, 5: 3.0}, {1: 4.0, 5: 3.0, 7: 9.0}).change == (1.5, 1.0, 2.0)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_a_curve_has_the_median_and_the_ends_over_the_points_that_all_have():
    runs = [_run(accuracies=values).points for values in ((0.1, 0.2, 0.3), (0.3, 0.8), (0.2, 0.3))]
    drawn = curve(runs, attrgetter("test_accuracy"))
    assert drawn.low.tolist() == [0.1, 0.2]
    assert drawn.middle.tolist() == [0.2, 0.3]
    assert drawn.high.tolist() == [0.3, 0.8]
    assert drawn.along["epochs"].tolist() == [0, 1]
    assert set(drawn.along) == {"epochs", "seconds", "gradients"}


def test_the_end_that_is_shown_is_three_times_the_median_at_most():
    """Of runs of 0.1, 0.2 and 1 seconds."""
    runs = [_run(accuracies=(0.1,) * count) for count in (2, 3, 11)]
    assert common_end(runs) == pytest.approx(0.6)
    assert common_end(runs[:2]) == pytest.approx(0.2)
    assert common_end([]) is None
