"""The search: what is tried, on which images, by which rule the best is found, and what it cost."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from optimizers.core import Span
from suites.harness.data.tuned import beside, read_tuned
from suites.harness.names import TUNED, method_of
from suites.harness.records.record import read
from suites.harness.training import parallel
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.tuning import grid, search
from suites.harness.tuning.halving import halve, rungs
from suites.harness.tuning.score import score
from suites.harness.tuning.search import Plan, settings_of
from suites.harness.tuning.space import beyond, declared, joined, parse, space_of, trials
from suites.problems import digits
from tests.example_records import ENVIRONMENT, header, point, write

SETTINGS = Settings(device="cpu", network=(64, 16, 10), validation=0.2)
FLAGS = ["--network", "64,16,10", "--epochs", 3, "--seeds", 1, "--trials", 4]
QUICK = Plan(trials=3, seeds=1, epochs=3)


@pytest.fixture(scope="module")
def task():
    return Task.load(SETTINGS)


def _records(folder, method=""):
    return [read(path) for path in sorted((folder / "runs").glob(f"{method}*.jsonl"))]


# --- the space ---


@pytest.mark.parametrize(
    ("method", "varied"),
    [
        ("sgd", {"lr"}),
        ("sgd[momentum=0.8]", {"lr"}),
        ("kfac", {"lr", "damping"}),
        ("kfac[damping=0.1]", {"lr"}),
        ("ea_cg[gamma=0]", {"lr", "damping"}),
        ("fisher+ea_cg", {"lr", "damping"}),
        ("torch.optim.Adam", {"lr"}),
    ],
)
def test_a_space_is_declared_with_the_optimizer(method, varied):
    space = space_of(choose(method), {})
    assert set(space) == varied
    assert all(span.low < choose(method).entry.options[name] < span.high for name, span in space.items())
    decades = {name: span.high / span.low for name, span in space.items()}
    assert decades.get("damping", 1e3) >= 1e3
    if "damping" not in choose(method).entry.options:
        assert decades["lr"] == pytest.approx(1e4)


def test_a_file_of_ones_own_declares_its_space(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from optimizers.core import Span\nfrom optimizers.sgd import SGD\n\n"
        "class Mine(SGD):\n    space = {'lr': Span(0.1, 1), 'momentum': Span(0, 0.95, 'linear'), 'other': Span(1, 2)}\n"
    )
    assert declared(choose(str(tmp_path / "mine.py")).entry) == {
        "lr": Span(0.1, 1),
        "momentum": Span(0, 0.95, "linear"),  # and not what it does not take
    }


@pytest.mark.parametrize(("default", "is_first"), [(0.1, True), (1.0, True), (0.3, True), (0.09, False), (1.1, False)])
def test_the_default_is_tried_first_if_it_is_inside(default, is_first):
    """The ends of a span belong to it."""
    found = trials({"lr": Span(0.1, 1)}, {"lr": default}, 5, lambda options: True)
    assert (found[0] == {"lr": default}) is is_first


@pytest.mark.parametrize("ends", [(-0.5, 0.9), (0.5, 1.2)])
def test_a_space_whose_end_the_optimizer_refuses_is_refused(task, ends):
    given = {"momentum": Span(*ends, "linear")}
    with pytest.raises(ValueError, match="momentum must be"):
        settings_of(task, choose("sgd[lr=0.1]"), Plan(space=given))


def test_a_default_that_is_no_number_has_nothing_around_it():
    entry = replace(choose("torch.optim.Adam").entry, options={"lr": None})
    assert declared(entry) == {}


def test_a_space_that_is_given_takes_the_place_of_the_declared(task):
    assert parse("momentum=0:0.9:linear") == ("momentum", Span(0, 0.9, "linear"))
    given = dict([parse("lr=1e-4:1:log"), parse(" max_iter = 5:50:log")])
    assert space_of(choose("sgd"), given) == {"lr": Span(1e-4, 1)}
    assert set(space_of(choose("ea_cg"), given)) == {"lr", "damping", "max_iter"}
    with pytest.raises(ValueError, match="nothing to search"):
        space_of(choose("sgd[lr=0.1]"), {})
    iterations = {one.options["max_iter"] for one in settings_of(task, choose("ea_cg"), Plan(space=given))}
    assert all(isinstance(count, int) and 5 <= count <= 50 for count in iterations)
    assert len(iterations) > 9


def test_trials_fill_the_space_evenly_on_its_scale():
    """Each quarter of a logarithmic scale gets as many, in each direction; the default comes first; two digits."""
    space = {"lr": Span(1e-3, 10), "damping": Span(1e-4, 1)}
    found = trials(space, {"lr": 0.1, "damping": 0.01}, 41, lambda options: True)
    assert found[0] == {"lr": 0.1, "damping": 0.01}
    assert len(found) == 41
    for name, low in (("lr", -3), ("damping", -4)):
        decades = [int(torch.tensor(one[name]).log10().floor()) for one in found[1:]]
        assert all(8 <= decades.count(low + place) <= 12 for place in range(4))
        assert all(float(f"{one[name]:.2g}") == one[name] for one in found)
    assert found == trials(space, {"lr": 0.1, "damping": 0.01}, 41, lambda options: True)  # seeded
    linear = trials({"momentum": Span(0, 1, "linear")}, {"momentum": 5.0}, 40, lambda options: True)
    assert all(9 <= sum(place <= 4 * one["momentum"] < place + 1 for one in linear) <= 11 for place in range(4))


def test_what_an_optimizer_does_not_take_is_not_tried():
    """Others are drawn in its place; where there are no others, there are fewer trials."""
    space = {"damping": Span(0.1, 10)}
    found = trials(space, {"damping": 50.0}, 9, lambda options: options["damping"] < 1)
    assert len(found) == 9
    counts = trials({"max_iter": Span(1, 4)}, {"max_iter": 2}, 9, lambda options: True)
    assert sorted(one["max_iter"] for one in counts) == [1, 2, 3, 4]
    rates = trials({"lr": Span(0.01, 2)}, {"lr": 1}, 9, lambda options: True)  # as torch's LBFGS has it
    assert len({one["lr"] for one in rates}) == 9


@pytest.mark.parametrize(
    ("span", "value", "expected"),
    [
        (Span(1, 1000), 31, None),
        (Span(1, 1000), 2.1, None),
        (Span(1, 1000), 1.9, (0.1, 1)),  # a tenth of three decades
        (Span(1, 1000), 480, None),
        (Span(1, 1000), 520, (1000, 10000)),
        (Span(0, 3, "linear"), 2.8, (3, 4)),
        (Span(0, 3, "linear"), 0.2, (-1, 0)),
        (Span(0, 3, "linear"), 0.4, None),
    ],
)
def test_a_tenth_of_a_span_is_its_edge_and_a_third_lies_beyond(span, value, expected):
    found = beyond(span, value)
    assert (found and (found.low, found.high)) == (expected and pytest.approx(expected))
    assert found is None or found.scale == span.scale


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(1, 1, "log"), (2, 1, "log"), (0, 1, "log"), (float("nan"), 1, "log")]
)
def test_a_span_that_is_none_is_refused(low, high, scale):
    with pytest.raises(ValueError, match="a span"):
        Span(low, high, scale)


# --- the grid of the paper ---


def test_the_grid_is_as_the_paper_prints_it(task):
    """Learning rate, |Batch|, alpha, max|CG| and epsilon_CG, of its section on experiments."""
    settings = settings_of(task, choose("ea_cg"), Plan(of_paper=True, batch_sizes=grid.BATCHES))
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
def test_the_grid_is_the_papers(task, method, count):
    found = settings_of(task, choose(method), Plan(of_paper=True, batch_sizes=grid.BATCHES))
    assert len({(setting.choice.spec, setting.batch_size) for setting in found}) == len(found) == count
    if "gamma" in method:
        assert {(setting.choice.options["gamma"], setting.choice.options["lr"]) for setting in found} == {(0, 0.1)}


def test_a_method_is_named_without_what_the_grid_varies():
    assert set(grid.GRID) == set(TUNED)
    assert method_of("ea_cg[gamma=0,lr=0.1,damping=0.02,max_iter=5,tolerance=0.1]") == "ea_cg[gamma=0]"
    assert method_of("sgd[lr=0.1]") == method_of("sgd") == "sgd"


def test_the_papers_search_trains_all_of_the_grid_in_full(task, monkeypatch, tmp_path):
    monkeypatch.setattr(grid, "GRID", {"lr": (1e-6, 0.2, 1e-5)})
    found = search.tune(task, choose("sgd"), replace(QUICK, of_paper=True, batch_sizes=(100, 200)), tmp_path)
    assert (found.spec, found.batch_size) == ("sgd[lr=0.2]", 100)
    assert (found.search.rungs, found.search.trials, found.search.epochs) == (((6, 3),), 6, 18)
    assert found.search.space == {"lr": "1e-06, 0.2, 1e-05"}
    assert (found.search.edge, found.search.extended) == (("lr",), ())


@pytest.mark.parametrize(("rates", "edge"), [((0.1,), ()), ((0.1, 0.05), ("lr",)), ((0.2, 0.1, 0.05), ())])
def test_a_best_is_at_an_edge_of_the_grid_if_it_is_the_least_or_most_of_several(
    task, monkeypatch, tmp_path, rates, edge
):
    monkeypatch.setattr(grid, "GRID", {"lr": rates})
    _fake_runs(monkeypatch, lambda options: 0.5 if options["lr"] == 0.1 else 0.2, tmp_path)
    assert search.tune(task, choose("sgd"), Plan(of_paper=True, seeds=1), tmp_path).search.edge == edge


# --- the rule ---


def test_validation_images_are_held_out():
    """As many of each class, none of them trained on, and none of the test set."""
    whole, held = Task.load(replace(SETTINGS, validation=0.0)).dataset, Task.load(SETTINGS).dataset
    assert len(held.train) + len(held.test) == len(whole.train)
    together = torch.cat([held.train.images, held.test.images]).unique(dim=0)
    assert torch.equal(together, whole.train.images.unique(dim=0))
    for label in range(10):
        share = (held.test.targets == label).sum() / (whole.train.targets == label).sum()
        assert share == pytest.approx(0.2, abs=0.01)


def _run(*accuracies, loss=1.0, status="finished"):
    """A run by its accuracies after each epoch."""
    return _ended(
        [point(epoch, test_accuracy=accuracy, test_loss=loss) for epoch, accuracy in enumerate((0.1, *accuracies))],
        status,
    )


def _loss_run(*losses):
    """A run of a problem of vectors, by its losses."""
    points = [
        point(epoch, test_accuracy=None, train_accuracy=None, test_loss=loss)
        for epoch, loss in enumerate((9.0, *losses))
    ]
    return _ended(points, metric="test loss")


def _ended(points, status="finished", metric="test accuracy"):
    header, completed = SimpleNamespace(problem=SimpleNamespace(metric=metric)), status in ("finished", "at chance")
    return SimpleNamespace(header=header, completed=completed, ended=True, status=status, points=points, reason="none")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ([_run(0.5, 0.8, 0.9)], [_run(0.8, 0.85, 0.89)]),  # the hardest target first
        ([_run(0.5, 0.9, 0.9, loss=9)], [_run(0.5, 0.6, 1.0)]),  # and the epochs to it
        ([_run(0.8, 0.8, 0.8)], [_run(0.5, 0.8, 0.85)]),  # of equals the easier target
        ([_run(0.5, 0.7, 0.79)], [_run(0.5, 0.7, 0.78)]),  # then the accuracy in the end
        ([_run(0.5, 0.7, loss=0.1)], [_run(0.5, 0.7, loss=0.2)]),  # then the loss
        ([_run(0.5, 0.7, loss=9.0)], [_run(0.5, 0.7, loss=None)]),  # which may be not finite
        ([_run(0.1, 0.1, status="at chance")], [_run(0.9, 0.9, status="diverged")]),
        ([_run(0.1), _run(0.1)], [_run(0.9), _run(0.9, status="failed")]),  # one run is enough
        ([_run(0.9), _run(0.9), _run(0.2)], [_run(0.1, 0.9), _run(0.1, 0.9), _run(0.9, 0.9)]),  # medians over seeds
        ([_run(0.2), _run(0.3), _run(0.3)], [_run(0.7), _run(0.2), _run(0.2)]),
        ([_run(0.2, loss=1), _run(0.2, loss=1), _run(0.2, loss=9)], [_run(0.2, loss=2) for _ in range(3)]),
    ],
)
def test_the_rule(better, worse):
    assert score(better, (0.8, 0.9)) < score(worse, (0.8, 0.9))
    assert score(better, (0.8, 0.9)) == score(list(reversed(better)), (0.9, 0.8))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ([_loss_run(2.0, 0.9)], [_loss_run(1.4, 1.1)]),  # the lowest target is the hardest
        ([_loss_run(1.4, 1.4)], [_loss_run(2.0, 1.3)]),  # of equals the easier target
        ([_loss_run(2.0, 1.6)], [_loss_run(2.0, 1.7)]),  # then the loss in the end
    ],
)
def test_the_rule_where_the_loss_counts(better, worse):
    assert score(better, (1.5, 1.0)) < score(worse, (1.0, 1.5))


def _fake_runs(monkeypatch, accuracy_of, tmp_path, test_loss=1.0, **end):
    """Runs of two epochs that reach what ``accuracy_of`` says of their options, and cost 2 s and 5 gradients. They are
    trained two at a time.
    """
    asked = []

    def trained(jobs, workers, on_done):
        asked.extend(jobs)
        records = []
        for job in jobs:
            options = {**choose(job.spec).entry.options, **choose(job.spec).options}
            path = tmp_path / f"{len(asked)}_{len(records)}.jsonl"
            facts = header(at_a_time=2, optimizer=job.spec, seed=job.seed, epochs=2, batch_size=job.settings.batch_size)
            cost = {"training_seconds": 2.0, "gradient_equivalents": 5.0, "test_loss": test_loss}
            begin = [point(epoch, test_accuracy=0.0, test_loss=9.0, training_seconds=float(epoch)) for epoch in (0, 1)]
            ends = [*begin, point(2, test_accuracy=accuracy_of(options), **cost)]
            write(path, facts, ends, **(end and {**end, "reason": f"{end['reason']} {len(records)}"}))
            records.append(read(path))
            on_done(records[-1])
        return records

    monkeypatch.setattr(search, "run_jobs", trained)
    return asked


def test_seeds_are_fresh_and_costs_are_added_up(task, monkeypatch, tmp_path):
    asked = _fake_runs(monkeypatch, lambda options: 0.5, tmp_path)
    task = replace(task, settings=replace(task.settings, schedule="cosine"))
    plan = Plan(trials=9, seeds=2, epochs=9)
    found = search.tune(task, choose("sgd"), plan, tmp_path, data_root=tmp_path / "data")
    assert {job.seed for job in asked} == {1000, 1001}  # no comparison has a thousand seeds
    assert {job.data_root for job in asked} == {tmp_path / "data"}
    assert [job.epochs for job in asked] == [1] * 18 + [3] * 6 + [9] * 2
    assert found.search.rungs == ((9, 1), (3, 3), (1, 9))
    assert (found.search.runs, found.search.seeds, found.search.unfinished, found.search.epochs) == (26, 2, 0, 52)
    assert (found.search.seconds, found.search.gradient_equivalents) == (26, 130)  # two runs at a time
    assert found.options == {"lr": 0.1}  # of equals the one that was tried first, which is the default
    assert (found.accuracy, found.epochs) == (0.5, {f"{target:g}": float("inf") for target in task.problem.targets})
    assert (found.problem, found.criterion, found.network, found.activation, found.batch_size) == (
        *("digits", "cross-entropy", (64, 16, 10), "sigmoid", 100),
    )
    assert found.schedule == "cosine"
    assert (found.search.machine, found.search.kronbench) == ("EPYC", ENVIRONMENT.kronbench)
    assert found.search.commit == "0123456789"


def test_batch_sizes_are_those_of_the_settings(task, monkeypatch, tmp_path):
    asked = _fake_runs(monkeypatch, lambda options: 0.5, tmp_path)
    plan = Plan(trials=3, seeds=1, epochs=1, batch_sizes=(50, 200))
    assert search.tune(task, choose("sgd"), plan, tmp_path).batch_size == 50
    assert [job.settings.batch_size for job in asked] == [50, 200] * 3


def test_a_loss_that_is_not_known_is_left_out(task, monkeypatch, tmp_path):
    _fake_runs(monkeypatch, lambda options: 0.5, tmp_path, test_loss=None)
    assert search.tune(task, choose("sgd"), Plan(trials=3, seeds=1, epochs=1), tmp_path).loss is None


def test_an_extended_span_keeps_its_scale():
    assert joined(Span(0.1, 0.9, "linear"), Span(0.9, 1.1, "linear")) == Span(0.1, 1.1, "linear")


def test_the_papers_search_counts_all_epochs_of_all_trials():
    assert Plan(seeds=2, epochs=9, of_paper=True).run_epochs(6) == 2 * 6 * 9


def test_runs_that_did_not_finish_are_counted(task, tmp_path):
    plan = Plan(trials=4, seeds=1, epochs=1, space={"lr": Span(1e-2, 1e30)})
    found = search.tune(task, choose("sgd"), plan, tmp_path)
    unfinished = [record for record in _records(tmp_path) if not record.completed]
    assert 0 < found.search.unfinished == len(unfinished) < found.search.runs


def test_where_all_fail_the_last_is_named_with_its_reason(task, monkeypatch, tmp_path):
    _fake_runs(monkeypatch, lambda options: 0.5, tmp_path, status="failed", reason="number")
    with pytest.raises(ValueError, match=r"^no setting finished; 3_2: number 2$"):
        search.tune(task, choose("sgd"), Plan(trials=3, seeds=1, epochs=1), tmp_path)


@pytest.mark.parametrize(
    ("best", "extended", "edge"),
    [(0.1, (), ()), (20, ("lr",), ()), (1e6, ("lr",), ("lr",)), (5e-4, ("lr",), ()), (1e-9, ("lr",), ("lr",))],
)
def test_a_best_at_the_edge_extends_the_space_once(task, monkeypatch, tmp_path, best, extended, edge):
    """By a third of it with a third of the trials; if the best lies at the edge again, this is said."""
    distance = lambda options: abs(torch.tensor(options["lr"] / best).log10().item()) / 100  # noqa: E731
    asked = _fake_runs(monkeypatch, lambda options: 0.5 - distance(options), tmp_path)
    more = []
    found = search.tune(task, choose("sgd"), Plan(trials=27, seeds=1, epochs=1), tmp_path, on_more=more.append)
    assert (found.search.extended, found.search.edge) == (extended, edge)
    assert found.search.trials == len(asked) == (36 if extended else 27)
    assert more == ([9] if extended else [])
    assert found.options["lr"] == min(
        (choose(job.spec).options["lr"] for job in asked), key=lambda lr: distance({"lr": lr})
    )
    span = found.search.space["lr"].split(":")
    assert float(span[0]) == pytest.approx(1e-3 if best > 1e-2 else 1e-3 * 1e4 ** (-1 / 3), rel=1e-3)
    assert float(span[1]) == pytest.approx(10 if best < 1 else 10 * 1e4 ** (1 / 3), rel=1e-3)
    assert span[2] == "log"


def test_both_options_are_extended_as_far_as_they_may_go(task, monkeypatch, tmp_path):
    """A damping is below 1."""
    space = space_of(choose("kfac"), {})
    least = lambda options: min(span.share(options[name]) for name, span in space.items())  # noqa: E731
    asked = _fake_runs(monkeypatch, lambda options: max(least(options), 0) / 2, tmp_path)
    found = search.tune(task, choose("kfac"), Plan(trials=150, seeds=1, epochs=1), tmp_path)
    assert found.search.extended == ("lr", "damping")
    assert found.search.trials == len(asked) == 150 + 50 + 50
    dampings = [choose(job.spec).options["damping"] for job in asked]
    assert 0.3 < max(dampings) < 1


def test_halving_keeps_the_best_third():
    """In any place; what ranks low in the first rung is not asked for again."""
    for best in (0, 17, 35):
        asked = []

        def train(numbers, epochs, best=best, asked=asked):
            asked.append((len(numbers), epochs))
            return sorted(numbers, key=lambda number: abs(number - best - 0.1))

        found = halve(range(36), 10, train)
        assert found[0] == best
        assert asked == [(36, 1), (12, 3), (4, 10)]
        assert list(found) == sorted(range(36), key=lambda number: abs(number - best - 0.1))[:4]


@pytest.mark.parametrize(
    ("count", "epochs", "expected"),
    [
        (27, 40, [(27, 4), (9, 13), (3, 40)]),
        (36, 9, [(36, 1), (12, 3), (4, 9)]),
        (36, 8, [(36, 1), (12, 2), (4, 8)]),
        (27, 2, [(27, 1), (9, 2)]),
        (27, 1, [(27, 1)]),
        (2, 9, [(2, 1), (1, 9)]),
        (1, 40, [(1, 40)]),
        (28, 27, [(28, 3), (10, 9), (4, 27)]),
    ],
)
def test_rungs(count, epochs, expected):
    assert rungs(count, epochs) == expected
    assert all(more > fewer for (more, _), (fewer, _) in pairwise(expected))
    assert Plan(seeds=2, epochs=epochs).run_epochs(count) == 2 * sum(number * length for number, length in expected)


def test_the_test_set_chooses_nothing(monkeypatch, tmp_path):
    """With every label of the test set wrong, where the worst network would look best, the choice is the same."""
    plan = replace(QUICK, space={"lr": Span(1e-6, 0.2)}, trials=4)
    found = search.tune(Task.load(SETTINGS), choose("sgd"), plan, tmp_path / "right")
    right = digits.problem

    def wrong(*given):
        arrays = right.read(*given)
        pixels, labels = arrays.test
        return arrays._replace(test=(pixels, (labels + 1) % 10))

    monkeypatch.setattr(digits, "problem", replace(right, read=wrong))
    parallel._task.cache_clear()
    try:
        task = Task.load(SETTINGS)
        again = search.tune(task, choose("sgd"), plan, tmp_path / "wrong")
        whole = Task.load(replace(SETTINGS, validation=0.0)).dataset
    finally:
        parallel._task.cache_clear()
    assert again.spec == found.spec
    assert again.accuracy == found.accuracy > 0.5
    assert not torch.equal(whole.test.targets, task.dataset.test.targets)  # the labels were wrong indeed


def test_an_interrupted_search_goes_on(task, tmp_path):
    """Runs that finished are taken from their records, and the result is that of a search without a break."""
    done = []

    def stop(record):
        done.append(record.path)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.tune(task, choose("sgd"), QUICK, tmp_path, on_done=stop)
    kept = {path: path.stat().st_mtime_ns for path in done}
    found = search.tune(task, choose("sgd"), QUICK, tmp_path)
    assert kept == {path: path.stat().st_mtime_ns for path in done}
    assert search.tune(task, choose("sgd"), QUICK, tmp_path) == found
    assert found.search.rungs[:2] == ((3, 1), (1, 3))


@pytest.mark.usefixtures("quick_workers")
def test_several_workers_choose_the_same(task, tmp_path):
    alone, two = (
        search.tune(task, choose("sgd"), QUICK, tmp_path / str(count), workers=parallel.Workers(count))
        for count in (1, 2)
    )
    assert replace(two, search=replace(two.search, seconds=0)) == replace(
        alone, search=replace(alone.search, seconds=0)
    )


# --- the command ---


def test_the_best_is_found_and_compared(kronbench, tmp_path):
    """A learning rate that learns beats one that does not; compare reads what was written."""
    flags = [*FLAGS, "--optimizer", "sgd", "--optimizer", "kfac", "--space", "lr=1e-5:0.3:log", "--output", tmp_path]
    code, out, error = kronbench("tune", *flags)
    assert code == 0, error
    found = {one.optimizer: one for one in read_tuned(tmp_path / "tuned.toml")}
    assert list(found) == ["sgd", "kfac"]
    for one in found.values():
        assert one.spec in out
        records = _records(tmp_path, one.optimizer)
        assert {record.experiment.seed for record in records} == {1000}
        assert {record.experiment.validation for record in records} == {0.2}
        assert one.search.runs == len(records)
        assert one.search.epochs == sum(record.points[-1].epoch for record in records)
        best = max(records, key=lambda record: (record.experiment.epochs, record.points[-1].test_accuracy))
        assert one.accuracy == pytest.approx(best.points[-1].test_accuracy)
        assert one.search.rule.startswith("Among the settings whose runs all finished: the fewest epochs")
    flags = ["--network", "64,16,10", "--epochs", 4, "--seeds", 1, "--tuned", tmp_path / "tuned.toml"]
    flags += ["--optimizer", "sgd", "--optimizer", "kfac", "--output", tmp_path / "compared"]
    code, out, error = kronbench("compare", *flags)
    assert code == 0, error
    records = _records(tmp_path / "compared")
    assert {record.experiment.optimizer for record in records} == {one.spec for one in found.values()}
    assert {(record.experiment.validation, record.header.tuning) for record in records} == {(0, "tuned")}


def test_all_methods_have_as_many_trials(kronbench, tmp_path):
    code, _, error = kronbench("tune", *FLAGS, "--epochs", 1, "--output", tmp_path)
    assert code == 0, error
    found = read_tuned(tmp_path / "tuned.toml")
    names = [(one.optimizer, one.variant) for one in found]
    expected = ["sgd", "torch.optim.Adam", "kfac", "kfra", "ea_cg"]
    assert names == [*((name, {}) for name in expected), ("ea_cg", {"gamma": 0})]
    assert {one.search.trials - 2 * len(one.search.extended) for one in found} == {4}


def test_save_writes_beside_the_problem(kronbench, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom suites.problems import digits\n"
        "problem = replace(digits.problem, network=(64, 10))\n"
    )
    flags = ["--problem", tmp_path / "mine.py", "--optimizer", "sgd", "--trials", 1, "--seeds", 1, "--epochs", 2]
    assert kronbench("tune", *flags, "--output", tmp_path / "out")[0] == 0
    assert not (tmp_path / "mine.toml").exists()
    assert kronbench("tune", *flags, "--output", tmp_path / "out", "--save")[0] == 0
    assert read_tuned(tmp_path / "mine.toml") == read_tuned(tmp_path / "out" / "tuned.toml")
    (found,) = read_tuned(tmp_path / "mine.toml")
    assert (found.problem, found.spec) == ("mine", "sgd[lr=0.1]")


def test_what_diverges_is_never_the_best(kronbench, tmp_path):
    """And a method without a setting that finishes does not keep the others from theirs."""
    flags = [*FLAGS, "--activation", "relu", "--output", tmp_path, "--optimizer", "sgd", "--optimizer"]
    code, out, error = kronbench("tune", *flags, "sgd[momentum=0.8]", "--space", "lr=1e20:1e30:log")
    assert code == 1
    assert "error: sgd: no setting finished; sgd_lr=" in error
    assert "train loss is" in error
    assert not (tmp_path / "tuned.toml").exists()
    code, out, error = kronbench("tune", *flags, "sgd[momentum=0.8,lr=1e30]", "--space", "momentum=0.1:0.9:linear")
    assert (code, out) == (2, "")
    assert "nothing to search" in error
    flags += ["sgd[lr=1e30]", "--space", "momentum=0.1:0.9:linear", "--space", "lr=0.05:0.1:log"]
    code, out, error = kronbench("tune", *flags)
    assert code == 1
    assert "error: sgd[lr=1e+30]: no setting finished" in error
    (found,) = read_tuned(tmp_path / "tuned.toml")
    assert found.spec in out
    assert set(found.options) == {"lr", "momentum"}


def test_the_settings_of_the_problems_fit(task):
    """Those that are committed: each can be built, for the problem that it lies beside, if its library is there."""
    from suites.harness.data.problem import named

    for problem in named().values():
        for one in read_tuned(beside(problem)) if beside(problem).exists() else []:
            assert one.problem == problem.name
            library = one.optimizer.partition(".")[0] if "." in one.optimizer else "torch"
            if find_spec(library):
                task.check(choose(one.spec))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "lr"], "space 'lr': expected option=low:high:log"),
        (["--space", "lr=1:2"], "expected option=low:high:log"),
        (["--space", "lr=a:2:log"], "could not convert"),
        (["--space", "lr=1:2:cubic"], "expected option=low:high:log"),
        (["--space", "lr=2:1:log"], "from a lower number to a higher one, got 2 to 1"),
        (["--space", "lr=0:1:log"], "must begin above 0, got 0"),
        (["--space", "lrr=0.1:1:log"], "unknown option 'lrr': did you mean 'lr'"),
        (["--space", "damping=0.1:2:log"], "damping must be in (0, 1)"),
        (["--space", "lr=0.1:1:log", "--space", "lr=0.2:1:log"], "given more than once: lr, lr"),
        (["--trials", "0"], "trials must be 1 or more"),
        (["--seeds", "0"], "seeds must be 1 or more"),
        (["--epochs", "0"], "epochs must be 1 or more"),
        (["--search", "papers"], "unknown search 'papers': did you mean 'paper'"),
        (["--search", "paper", "--trials", "3"], "trials is of the quasi-random search"),
        (["--search", "paper", "--space", "lr=0.1:1:log"], "space is of the quasi-random search"),
        (["--batch-size", "1400"], "batch size must be from 1"),
        (["--batch-size", "0"], "batch size must be 1 or more"),
        (["--optimizer", "kfcc"], "did you mean 'kfac'"),
        (["--optimizer", "sgd[lr=0.1]"], "nothing to search"),
        (["--jobs", "0"], "jobs must be 1 or more"),
        (["--optimizer", "sgd", "--optimizer", "sgd[]"], "optimizer given more than once"),
    ],
)
def test_bad_input_is_one_line(refused, tmp_path, arguments, message):
    brief = ["--seeds", "1", "--epochs", "1"]  # in case that it is not refused
    assert message in refused("tune", *brief, *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_found_before_work_begins(kronbench, tmp_path):
    (tmp_path / "tuned.toml").write_text("[[settings]]\n")
    code, _, error = kronbench("tune", *FLAGS, "--output", tmp_path)
    assert code == 2
    assert str(tmp_path / "tuned.toml") in error
    assert not (tmp_path / "runs").exists()
