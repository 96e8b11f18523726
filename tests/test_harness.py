"""The harness: specifications, records, statistics, tables, and the command line as its users see it."""

import json
import math
import re
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers import FCNN
from suites.harness.measure import clock
from suites.harness.measure.step import CapturedStep, Step
from suites.harness.measure.timing import in_turn
from suites.harness.records.beside import read_step_seconds
from suites.harness.records.conventions import PHASES
from suites.harness.records.facts import Experiment, Point
from suites.harness.records.journal import read_journal
from suites.harness.records.record import read
from suites.harness.show.comparison import comparison_table
from suites.harness.training import evaluation, experiment, resumable, runner
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task, resolve_device
from suites.harness.training.identity import code_id, files_of, run_id
from suites.harness.training.parallel import Workers
from suites.harness.training.runner import run
from suites.harness.training.turns import in_one_go
from suites.harness.tuning import comparison
from tests.example_records import header, point, write

USERS_OWN = '''"""Signs only."""
import torch
from optimizers.core import Params, Tape, TapeOptimizer


class SignDescent(TapeOptimizer):
    def __init__(self, params: Params, lr: float = 0.001) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, tape: Tape) -> None:
        for layer in tape.layers:
            for group in self.param_groups:
                layer.weight.sub_(group["lr"] * layer.weight_gradient.sign())
                layer.bias.sub_(group["lr"] * layer.bias_gradient.sign())
'''


@pytest.mark.parametrize(
    ("name", "there", "device"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda"), ("cpu", True, "cpu")],
)
def test_a_device_by_its_name(monkeypatch, name, there, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device(name) == device


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^device cuda: torch finds no CUDA GPU here; use --device cpu$"):
        resolve_device("cuda")


def test_a_record_says_what_made_it(task, tmp_path):
    choice = replace(choose("sgd"), tuning="tuned", edge=("lr",), trials=7)
    header = run(task, choice, 0, 1, tmp_path, at_a_time=2).header
    files = files_of(task.problem)
    assert files
    assert (header.code, header.at_a_time) == (code_id(*files), 2)
    assert header.run == run_id(replace(header, run=None), *files) != run_id(replace(header, run=None))
    assert (header.tuning, header.edge, header.trials) == ("tuned", ("lr",), 7)


def test_a_run_that_cannot_be_done_is_recorded_with_the_reason(task, tmp_path):
    record = run(task, choose("sgd"), 0, 1, tmp_path, lost="its worker was killed")
    assert (record.status, record.end.reason) == ("failed", "its worker was killed")
    assert not record.points


def test_a_run_that_nothing_ends_is_refused(task, tmp_path):
    with pytest.raises(ValueError, match=r"^a run needs a number of epochs, a budget in seconds, or both$"):
        run(task, choose("sgd"), 0, None, tmp_path)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_training_begins_with_the_first_epoch(task, cuda_graph):
    """In a graph or not; nothing is captured before the step is taken."""
    task = replace(task, settings=replace(task.settings, cuda_graph=cuda_graph))
    step = task.training_step(choose("sgd"), seed=3)
    assert isinstance(step, CapturedStep) == cuda_graph
    first = next(task.dataset.batches(100, epoch=1, seed=3))
    assert all(map(torch.equal, next(step.batches), first))


def test_specifications_are_read():
    assert choose("ea_cg[gamma=0, max_iter=20]").options == {"gamma": 0, "max_iter": 20}
    assert choose("ea_cg[gamma=0, max_iter=20]").spec == "ea_cg[gamma=0,max_iter=20]"
    assert choose("fisher+ea_cg").entry.options["tolerance"] == 1e-2
    assert choose("torch.optim.AdamW[lr=1e-2,betas=(0.9,0.95)]").options == {"lr": 0.01, "betas": (0.9, 0.95)}
    assert choose(choose("kfac[inverse=gram, damping=.5]").spec).options == {"inverse": "gram", "damping": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "kfcc"], "did you mean 'kfac'"),
        (["--optimizer", "kfac[dampin=0.1]"], "did you mean 'damping'"),
        (["--optimizer", "kfac[0.1]"], "expected option=value,..., each option once, got '0.1'"),
        (["--optimizer", "kfac[lr=]"], "expected option=value,..., each option once, got 'lr='"),
        (["--optimizer", "kfac[lr=1,lr=2]"], "expected option=value,..., each option once, got 'lr=1,lr=2'"),
        (["--optimizer", "kfac[damping=2]"], "damping must be in (0, 1), got 2"),
        (["--optimizer", "kfac[damping=a]"], "damping must be in (0, 1), got 'a'"),
        (["--optimizer", "ea_cg[gamma=1]"], "gamma must be in [-1, 0]"),
        (["--optimizer", "sgd", "--optimizer", "sgd"], "more than once: sgd[lr=0.9], sgd[lr=0.9]"),
        (
            ["--optimizer", "sgd[lr=0.90]", "--optimizer", "kfac", "--optimizer", "sgd"],
            "once: sgd[lr=0.9], sgd[lr=0.9]",
        ),
        (["--optimizer", "kfra", "--criterion", "bounded"], "use PCH"),
        (["--optimizer", "nowhere.py"], "there is no such file"),
        (["--problem", "digit"], "did you mean 'digits'"),
        (["--criterion", "cross_entropy"], "did you mean 'cross-entropy'"),
        (["--activation", "sigmod"], "did you mean 'sigmoid'"),
        (["--network", "64,a,10"], "network must be sizes"),
        (["--network", "64,0,10"], "of at least 1"),
        (["--network", "63,10"], "begin with 64"),
        (["--epochs", "0"], "epochs must be 1 or more"),
        (["--seeds", "0"], "seeds must be 1 or more"),
        (["--batch-size", "0"], "batch size must be 1 or more"),
        (["--batch-size", "2000"], "1437 training images"),
        (["--target", "2"], "target must be"),
        (["--target", "0.9", "--target", "0"], "target must be an accuracy in (0, 1], got 0.0"),
        (["--schedule", "cosin"], "unknown schedule 'cosin': did you mean 'cosine'?"),
        (["--optimizer", "sgd[schedule=liner]"], "unknown schedule 'liner': did you mean 'linear'?"),
        (["--optimizer", "sgd[scedule=linear]"], "did you mean 'schedule'?"),
        (["--schedule", "cosine", "--budget", "60s"], "give --epochs beside --budget"),
        (["--budget", "60"], "budget: a time must be a number with a unit, such as 60s, 2m or 1h, got '60'"),
        (["--device", "tpu"], "device must be auto, cpu or cuda"),
        (["--epoch", "3"], "--epochs"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(refused, tmp_path, arguments, message):
    assert message in refused("compare", "--output", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_compare_writes_records_table_and_pictures(kronbench, without_times, tmp_path):
    """From flags to files, and again from the configuration that was written beside them: the same numbers."""
    flags = ["--network", "64,8,10", "--epochs", 2, "--seeds", 2, "--optimizer", "sgd", "--optimizer", "ea_cg[gamma=0]"]
    code, out, error = kronbench("compare", *flags, "--output", tmp_path / "a")
    assert code == 0, error
    assert "EA-CG, PCH-2" in out
    assert "gradient-equivalents to 0.95" in (tmp_path / "a" / "table.md").read_text()
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"table.md", "config.toml", "epochs.png", "epochs.svg", "seconds.png", "seconds.svg", "runs"} <= names
    code, _, error = kronbench("compare", "--config", tmp_path / "a" / "config.toml", "--output", tmp_path / "b")
    assert code == 0, error
    first, second = (sorted((tmp_path / folder / "runs").iterdir()) for folder in "ab")
    assert [path.name for path in first] == [path.name for path in second]
    assert len(first) == 4
    for one, other in zip(first, second, strict=True):
        assert list(map(without_times, read(one).points)) == list(map(without_times, read(other).points))
    seconds = read_step_seconds(tmp_path / "a" / "step_seconds.json")
    assert {name: len(sittings) for name, sittings in seconds.items()} == {"sgd": 2, "ea_cg[gamma=0]": 2}


@pytest.mark.parametrize("workers", [None, Workers(2), Workers(at_once=2), Workers(1, "dask")])
def test_steps_are_timed_after_each_seed_and_not_of_who_failed(task, tmp_path, monkeypatch, workers):
    """Runs at a time do seeds in any order, so all sittings come last. Whose second run fails is not timed at all."""
    took = []

    def done(choice, seed):
        took.append((choice.spec, seed))
        status = "failed" if (choice.spec, seed) == ("kfac", 1) else "finished"
        facts = header(optimizer=choice.spec, seed=seed)
        path = tmp_path / f"{choice.spec}{seed}.jsonl"
        write(path, facts, [point(epoch, test_accuracy=0.5 * epoch) for epoch in range(3)], status)
        return read(path)

    def blocks(steps, device, rounds, at_most_seconds, **more):
        took.append(sorted(steps))
        assert at_most_seconds == 30
        return dict.fromkeys(steps, [float(len(took))] * rounds)

    def in_turns(task, choice, seed, *_, **__):
        yield
        return done(choice, seed)

    monkeypatch.setattr(comparison, "run_in_turns", in_turns)
    monkeypatch.setattr(comparison, "run_jobs", lambda jobs, *_: [done(choose(job.spec), job.seed) for job in jobs])
    monkeypatch.setattr(comparison, "interleaved_seconds", blocks)
    monkeypatch.setattr(comparison, "draw_convergence", lambda *_: None)
    choices = [choose("ea_cg"), choose("kfac")]
    comparison.compare(task, choices, 2, 2, tmp_path / "out", workers=workers)
    runs, all_of, left = (
        [[("ea_cg", seed), ("kfac", seed)] for seed in (0, 1)],
        ["ea_cg", "kfac", "sgd"],
        ["ea_cg", "sgd"],
    )
    if workers:
        assert took == [*runs[0], *runs[1], left, left]
    else:
        assert took == [*runs[0], all_of, *runs[1], left]
        seconds = read_step_seconds(tmp_path / "out" / "step_seconds.json")
        assert seconds == {"sgd": [[3.0] * 40, [6.0] * 40], "ea_cg": [[3.0] * 40, [6.0] * 40]}


def test_step_seconds_of_old_are_sittings_of_one_block(tmp_path):
    path = tmp_path / "step_seconds.json"
    path.write_text('{"sgd": [1.0, 2], "kfac": [3.0, 4.0]}')
    assert read_step_seconds(path) == {"sgd": [[1.0], [2.0]], "kfac": [[3.0], [4.0]]}
    for wrong in ('{"sgd": [[1.0, 2.0]], "kfac": [[1.0]]}', '{"sgd": [[1.0]], "kfac": [[1.0], [2.0]]}'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="as many blocks of each optimizer in each sitting"):
            read_step_seconds(path)
    for wrong in ('{"sgd": [[]]}', '{"sgd": [[0.0]]}', '{"sgd": 1.0}'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="step_seconds"):
            read_step_seconds(path)


def test_a_file_of_a_users_own_is_an_optimizer(kronbench, tmp_path):
    (tmp_path / "mine.py").write_text(USERS_OWN)
    flags = ["--optimizer", tmp_path / "mine.py", "--epochs", 1, "--seeds", 1, "--output", tmp_path / "out"]
    code, out, error = kronbench("compare", *flags)
    assert code == 0, error
    assert "mine" in out
    (record,) = (tmp_path / "out" / "runs").iterdir()
    assert read(record).header.source == USERS_OWN
    code, _, error = kronbench("compare", "--config", tmp_path / "out" / "config.toml")
    assert code == 0, error


def test_a_config_of_another_command_is_refused(kronbench, tmp_path):
    (tmp_path / "config.toml").write_text('command = "reproduce"\nepochs = 1\n')
    code, _, error = kronbench("compare", "--config", tmp_path / "config.toml", "--output", tmp_path / "out")
    assert (code, "it has the flags of kronbench reproduce, not of compare" in error) == (2, True)


def test_a_config_with_an_unknown_flag_is_refused(kronbench, tmp_path):
    (tmp_path / "c.toml").write_text("epoch = 3\n")
    code, _, error = kronbench("compare", "--config", tmp_path / "c.toml")
    assert code == 2
    assert "did you mean 'epochs'" in error


def test_list_names_everything(kronbench):
    code, out, _ = kronbench("list")
    assert code == 0
    for name in ("kfac", "ea_cg", "gauss_newton", "kfi", "imagenet10", "bounded", "softplus", "sparse"):
        assert name in out
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    for option, allowed in {
        "lr=0.1": "above 0",
        "momentum=0.9": "in [0, 1)",
        "damping=0.01": "in (0, 1)",
        "gamma=-1": "in [-1, 0]",
        "max_iter=10": "a whole number of 1 or more",
        "inverse=exact": "one of exact, factor, gram, rank_one, auto",
        "labels=batch": "one of batch, sampled, exact",
    }.items():
        assert [option, allowed] in lines
    (digits,) = (line for line in out.splitlines() if line.startswith("  digits "))
    assert digits.endswith("network 64-64-32-16-10; cross-entropy; target 0.95, 0.97 test accuracy")


def test_divergence_is_recorded(tmp_path):
    task = Task.load(Settings(device="cpu", network=(64, 16, 10), activation="relu"))
    record = run(task, choose("sgd[lr=1e30]"), seed=0, epochs=3, folder=tmp_path)
    assert record.status == "diverged"
    assert "train loss" in record.reason
    assert all(json.loads(line) for line in record.path.read_text().splitlines())


@pytest.fixture
def scripted(monkeypatch):
    """Runs whose evaluations, on the training and on the test set, give these losses and accuracies in turn."""

    def script(*measured):
        found = iter([pair for pair in measured for _ in range(2)])
        monkeypatch.setattr(runner, "evaluate", lambda task, network, split: next(found))

    return script


@pytest.mark.parametrize(
    ("measured", "status", "reason"),
    [
        ([(2.3, 0.1), (2.0, 0.5), (2.31, 0.5)], "diverged", "train loss ended at 2.31, above 2.3 where it began"),
        ([(2.3, 0.1), (2.4, 0.5), (2.3, 0.5)], "finished", None),
        ([(2.3, 0.1), (1.0, 0.12), (0.5, 0.15)], "at chance", "test accuracy was never above 0.1556"),
        ([(2.3, 0.1), (1.0, 0.2), (0.5, 0.1)], "finished", None),
        ([(2.3, 0.2), (1.0, 0.1), (0.5, 0.1)], "finished", None),
    ],
)
def test_a_run_that_learned_nothing_says_so(task, scripted, tmp_path, measured, status, reason):
    scripted(*measured)
    record = run(task, choose("sgd"), seed=0, epochs=2, folder=tmp_path)
    assert record.header.at_a_time == 1
    assert record.status == status
    assert record.end is not None
    assert (record.reason or "").startswith(reason or "")
    assert record.completed == (status != "diverged")


def test_a_run_that_goes_on_remembers_how_it_began(task, scripted, tmp_path, dies_at):
    """Where its loss began, and the best accuracy of the part that died."""
    scripted((3.0, 0.1), (1.0, 0.9), (1.5, 0.1), (2.0, 0.1), (2.5, 0.1))
    with pytest.raises(KeyboardInterrupt):
        run(task, choose("sgd"), 0, 3, tmp_path, on_point=dies_at(2))
    record = run(task, choose("sgd"), 0, 3, tmp_path)
    assert record.end is not None
    assert record.end.resumed == (2,)
    assert record.status == "finished"


@pytest.mark.parametrize("counts", [[36] * 10, [30, 70], [1, 2, 3, 4], [500, 500]])
def test_chance_is_what_guesses_stay_below(counts):
    """By the terms of the binomial distribution: more guesses than that are right in at most one case of a thousand."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    count, p = sum(counts), Fraction(max(counts), sum(counts))
    bound = round(evaluation.chance(labels) * count)

    def above(most):
        return sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(most + 1, count + 1))

    assert above(bound) <= Fraction(1, 1000) < above(bound - 1)


def test_compare_says_who_learned_nothing(kronbench, tmp_path):
    """A method at chance is a result; one whose runs all diverged ends with exit code 1."""
    flags = ["--network", "64,8,10", "--epochs", 1, "--seeds", 1, "--activation", "relu", "--batch-size", 1437]
    code, out, error = kronbench("compare", "--optimizer", "sgd", *flags, "--output", tmp_path / "chance")
    assert code == 0
    assert "1 at chance" in out
    assert error.startswith("at chance: sgd, seed 0: test accuracy was never above ")
    code, out, error = kronbench("compare", "--optimizer", "sgd[lr=1e30]", *flags, "--output", tmp_path / "diverged")
    assert code == 1
    assert "1 diverged" in out
    assert error.startswith("diverged: sgd[lr=1e+30], seed 0: train loss ")


def test_a_failure_is_recorded(task, tmp_path, monkeypatch):
    """An exception in a step ends in the record of that run, with its reason."""
    monkeypatch.setattr("optimizers.sgd.SGD.step", lambda self, tape: torch.zeros(2) @ torch.zeros(3))
    record = run(task, choose("sgd"), seed=0, epochs=1, folder=tmp_path)
    assert record.status == "failed"
    assert record.reason.startswith("RuntimeError: ")
    table = comparison_table([record], {"sgd": [[1.0], [1.0]]}, target=0.9)
    assert dict(zip(table.titles, table.texts[0], strict=True)).items() >= {
        ("runs", "1 failed"),
        ("epochs to 0.9", "not reached"),
    }


def test_a_record_says_that_the_factor_did_not_fit(task, tmp_path):
    """The warning is in the record, once, and is shown."""

    class NoRoom(TorchDispatchMode):
        """A machine that has no room for a matrix of 64 x 64."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape == (64, 64):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return result

    with pytest.warns(UserWarning, match="falling back to rank_one"), NoRoom():
        record = run(task, choose("kfac[inverse=auto]"), seed=0, epochs=1, folder=tmp_path)
    assert record.status == "finished"
    assert [text for text in record.end.warnings if "the 64 x 64 factor" in text]
    assert len(record.end.warnings) == len(set(record.end.warnings))


def test_solver_health_reaches_the_record(task, tmp_path):
    point = run(task, choose("ea_cg[max_iter=3]"), seed=0, epochs=1, folder=tmp_path).points[1]
    assert len(point.solver.iterations_max) == task.steps_per_epoch
    assert max(point.solver.iterations_max) <= 3
    assert all(residual > 0 for residual in point.solver.residual_max)
    assert set(point.solver.failed_factorizations) == {0}


@pytest.mark.parametrize("criterion", ["cross-entropy", "bounded"])
@pytest.mark.parametrize("spec", ["ea_cg[lr=1e30]", "kfac[lr=1e30]", "kfac[lr=1e30,labels=sampled]", "ekfac[lr=1e30]"])
def test_solves_that_are_not_finite_are_recorded(tmp_path, spec, criterion):
    """A learning rate without measure: from the second step on no solve is sound, and the record counts each."""
    task = Task.load(Settings(device="cpu", network=(64, 16, 10), activation="relu", criterion=criterion))
    record = run(task, choose(spec), seed=0, epochs=1, folder=tmp_path)
    assert record.status == "diverged"
    counts = record.points[-1].solver.not_finite
    assert counts[0] == 0
    assert all(count > 0 for count in counts[1:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "unknown dtype 'float16': did you mean 'float64'? there are: float32, float64"),
        ({"cuda_graph": True}, "cuda graph: there is no capture on a CPU; use --device cuda, or leave it out"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Task.load(Settings(device="cpu", **settings))


@pytest.mark.parametrize(("asked", "downloads"), [({}, True), ({"download": False}, False)])
def test_data_are_downloaded_unless_a_user_says_otherwise(monkeypatch, tmp_path, asked, downloads):
    def load(problem, **options):
        raise RuntimeError(options)

    monkeypatch.setattr(experiment, "load", load)
    with pytest.raises(RuntimeError) as caught:
        Task.load(Settings(device="cpu"), data_root=tmp_path, **asked)
    options = {"data_root": tmp_path, "device": "cpu", "dtype": torch.float32, "download": downloads}
    assert caught.value.args[0] == options


def test_a_gpu_may_capture(monkeypatch):
    """Nothing is refused; with no GPU here it ends at the data."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(experiment, "load", lambda problem, device, **options: {}[device])
    with pytest.raises(KeyError, match="cuda"):
        Task.load(Settings(device="cuda", cuda_graph=True))


def test_a_network_is_as_its_settings_say():
    settings = {"network": (64, 32, 10), "activation": "tanh", "initialization": "sparse"}
    network = Task.load(Settings(device="cpu", dtype="float64", **settings)).network(3)
    expected = FCNN((64, 32, 10), "tanh", initialization="sparse", dtype=torch.float64, seed=3)
    assert network.activations == expected.activations
    assert all(map(torch.equal, network.parameters(), expected.parameters()))


def test_a_step_begins_with_the_batches_of_the_first_epoch(task):
    batch = next(task.dataset.batches(task.settings.batch_size, 1, 5))
    assert all(map(torch.equal, next(task.step(choose("sgd"), seed=5).batches), batch))


def test_a_point_is_of_the_training_and_of_the_test_images(task, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "evaluate", lambda task, network, split: (len(split), len(split) / 2000))
    point = run(task, choose("sgd"), 0, 1, tmp_path).points[0]
    assert (point.train_loss, point.train_accuracy) == (1437, 1437 / 2000)
    assert (point.test_loss, point.test_accuracy) == (360, 360 / 2000)


def test_evaluation_is_the_mean_over_all_images(task):
    network, split = task.network(0), task.dataset.test
    with torch.no_grad():
        logits = network(torch.cat([inputs for inputs, _ in task.dataset.chunks(split)]))
    loss, accuracy = evaluation.evaluate(task, network, split)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, split.targets).item(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == split.targets).sum().item() / 360


def test_a_record_has_the_bytes_of_the_optimizer(task, tmp_path):
    """Adam keeps two moments of every parameter, and forms more within a step."""
    end = run(task, choose("torch.optim.Adam"), 0, 1, tmp_path).end
    moments = 2 * 4 * sum(parameter.numel() for parameter in task.network(0).parameters())
    assert moments <= end.state_bytes < moments + 100
    assert end.state_bytes < end.peak_state_bytes < 3 * end.state_bytes


@pytest.fixture
def lasts(monkeypatch):
    """A clock that stands still but for what is said to last: a step a second, evaluation of a split 100, ..."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def lasts(where, name, seconds):
        function = getattr(where, name)

        def slow(*given, **more):
            now[0] += seconds
            return function(*given, **more)

        monkeypatch.setattr(where, name, slow)

    lasts(Step, "update", 1)
    lasts(runner, "evaluate", 100)
    lasts(runner, "negative_curvature", 1000)
    lasts(runner, "state_bytes", 10_000)
    lasts(resumable.Work, "point", 10_000)
    lasts(resumable.Work, "keep", 10_000)


@pytest.mark.usefixtures("lasts")
def test_training_and_evaluation_have_clocks_of_their_own(task, tmp_path):
    """Nothing else is on either: not the warm-up, not the writing."""
    points = run(task, choose("ea_cg"), 0, 2, tmp_path).points
    steps = task.steps_per_epoch
    assert [point.training_seconds for point in points] == [0, steps, 2 * steps]
    assert [point.evaluation_seconds for point in points] == [1200, 2400, 3600]


@pytest.mark.usefixtures("lasts")
def test_the_clocks_of_a_run_that_goes_on_go_on(task, tmp_path, dies_at):
    with pytest.raises(KeyboardInterrupt):
        run(task, choose("ea_cg"), 0, 3, tmp_path / "died", on_point=dies_at(2))
    record = run(task, choose("ea_cg"), 0, 3, tmp_path / "died")
    assert record.end.resumed == (2,)
    assert record.points == run(task, choose("ea_cg"), 0, 3, tmp_path / "whole").points


@pytest.mark.parametrize("spec", ["sgd", "kfac", "ea_cg", "torch.optim.AdamW"])
def test_cost_by_phase_reaches_the_record(task, tmp_path, spec):
    """Points add up: phases to the gradient-equivalents, and no phase takes longer than all of the training."""
    record = run(task, choose(spec), seed=0, epochs=3, folder=tmp_path)
    start, first, second, last = record.points
    phases = set(first.phases)
    assert phases == set(PHASES) if spec in ("kfac", "ea_cg") else phases == {"forward_backward", "update"}
    assert start.gradient_equivalents == start.forwards == start.cg_iterations == 0
    for before, after in pairwise(record.points):
        steps = after.step - before.step
        of_phases = after.phases.values()
        operations = sum(phase.operations_mean for phase in of_phases) * steps
        gradients = after.gradient_equivalents - before.gradient_equivalents
        assert gradients * record.end.gradient_operations == pytest.approx(operations, rel=1e-4)
        seconds = after.training_seconds - before.training_seconds
        assert 0 < sum(phase.seconds_mean for phase in of_phases) * steps < seconds
        assert all(phase.seconds_p99 >= phase.seconds_mean for phase in of_phases)
    steps = last.step
    assert last.forwards == last.backwards == steps
    assert last.factorizations == (6 * steps if spec == "kfac" else 0)
    iterations = sum(sum(point.solver.iterations_max) for point in (first, second, last) if point.solver)
    assert last.cg_iterations == iterations
    if "ea_cg" not in spec and spec != "kfac":
        assert last.gradient_equivalents == steps


@pytest.fixture
def gpu_locks(monkeypatch, tmp_path):
    """The folder of the locks of GPUs that are not there."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=str(device)))
    return tmp_path


def _is_taken(lock):
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def test_what_is_timed_has_the_gpu_to_itself(gpu_locks):
    """Others wait; each GPU has a lock of its own, and a CPU none."""
    with clock.gpu_alone("cpu"):
        assert not list(gpu_locks.iterdir())
    with clock.gpu_alone("cuda:0"):
        with clock.gpu_alone("cuda:1"):
            first, second = sorted(gpu_locks.iterdir())
        assert _is_taken(first)
        assert not _is_taken(second)
    assert not _is_taken(first)


def test_runs_and_step_times_have_the_gpu_to_themselves(gpu_locks, tmp_path):
    """A run that times steps on its own GPU does not wait for itself."""
    taken = []

    def look(*arguments):
        taken.append([_is_taken(lock) for lock in gpu_locks.glob("kronbench*")])

    def work(under_way):
        look()
        in_turn({}, "cuda", 1, 1.0, 1, 1.0, on_round=look)
        look()
        yield
        return "finished", None

    in_turn({}, "cuda", 1, 1.0, 1, 1.0, on_round=look)
    in_one_go(resumable.run_once)(
        tmp_path / "run.jsonl",
        header(epochs=0),
        "cuda",
        lambda path: read_journal(path, Experiment, Point),
        work,
        needs_checkpoint=False,
    )
    assert taken == [[True]] * 4
    look()
    assert taken[-1] == [False]
