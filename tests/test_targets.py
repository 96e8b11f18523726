"""Targets that are vectors, or the inputs themselves: loaded, trained on, judged by the loss, and shown so."""

import math
from dataclasses import replace
from textwrap import dedent

import numpy as np
import pytest
import torch

from optimizers.core import BERNOULLI, SQUARED_ERROR
from suites.harness.analysis.metrics import judged_by, metrics_of
from suites.harness.data import Arrays, Problem
from suites.harness.data.dataset import load
from suites.harness.data.problem import DataError
from suites.harness.data.tuned import read_tuned
from suites.harness.records.groups import hardest_reached, to_reach
from suites.harness.records.record import read
from suites.harness.training import evaluation
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run
from tests.example_records import header, point, write
from tests.test_problems import EXAMPLE as CLASSES
from tests.test_problems import OWN

REGRESSION = CLASSES.with_name("my_regression.py")
BYTES = """
import numpy as np
from suites.harness.data import Arrays, Problem

def read(root, seed, download):
    seeds = np.random.default_rng(0).integers(2, size=(120, 2), dtype=np.uint8)
    pixels = 255 * np.concatenate([seeds, seeds, 1 - seeds], 1)
    return Arrays((pixels[:100], None), (pixels[100:], None))

problem = Problem(
    "bits", (6, 4, 2, 4, 6), read, criterion="bernoulli", metric="test loss", unit="nats a row", targets=(4.0, 2.0),
    scaling="unit", activation=("tanh", "linear", "tanh"), initialization="sparse", batch_size=20, epochs=3,
)
"""


def of(train, test=None, **facts):
    """The data set of arrays."""
    arrays = Arrays(train, test or train)
    return load(Problem("a test's", (1, 1), lambda *given: arrays, metric="test loss", **facts), dtype=torch.float64)


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "bits.py"
    file.write_text(BYTES)
    return file


@pytest.fixture
def task(own):
    return Task.load(Settings(str(own), device="cpu", dtype="float64"))


def test_vectors_go_with_their_inputs_in_any_order():
    inputs = np.arange(12.0).reshape(6, 2)
    data = of((inputs, inputs[:, :1] / 2))
    assert (data.vectors, data.outputs, data.train.targets.dtype) == (True, 1, torch.float64)
    pairs = torch.cat([torch.cat(batch, 1) for batch in data.batches(2, epoch=1, seed=0)])
    expected = torch.cat([data.inputs(data.train.images), data.train.targets], 1)
    assert torch.equal(pairs[pairs[:, 2].argsort()], expected)
    assert not torch.equal(pairs, expected)
    assert torch.equal(torch.cat([y for _, y in data.chunks(data.test, 4)]), data.test.targets)


def test_an_autoencoder_keeps_one_copy_of_its_bytes(task):
    """Bytes stay bytes; the targets of a batch are its inputs, from 0 to 1."""
    for data in (task.dataset, task.dataset.with_validation(0.2)):
        for split in (data.train, data.test):
            assert split.images.dtype == torch.uint8
            assert split.targets.data_ptr() == split.images.data_ptr()
        x, y = next(data.batches(20, epoch=1, seed=0))
        assert x.data_ptr() == y.data_ptr()
        assert x.unique().tolist() == [0, 1]


def test_an_autoencoder_of_normalized_inputs_gives_back_what_the_network_gets():
    data = of((np.array([[0.0, 1.0], [2.0, 5.0]]), None))
    x, y = next(data.chunks(data.train))
    assert y.tolist() == x.tolist() == [[-1, -1], [1, 1]]


def test_a_share_of_all_vectors_is_held_out_always_the_same():
    values = np.arange(50.0)[:, None]
    data = of((values, 2 * values))
    held = data.with_validation(0.2)
    assert (len(held.train), len(held.test)) == (40, 10)
    together = torch.cat([held.train.targets, held.test.targets])
    assert torch.equal(together.sort(0)[0], data.train.targets)
    assert torch.equal(data.inputs(data.train.images)[(held.test.targets / 2).long()[:, 0]], held.test.images)
    assert torch.equal(held.test.targets, data.with_validation(0.2).test.targets)
    assert not torch.equal(held.test.targets, data.train.targets[:10])


ONE = np.ones((3, 2))


@pytest.mark.parametrize(
    ("train", "test", "facts", "message"),
    [
        ((ONE, np.ones(3)), None, {}, r"targets \[N, C\] or None, got \[3, 2\] and \[3\]"),
        ((ONE, np.ones((2, 1))), None, {}, r"got \[3, 2\] and \[2, 1\]"),
        ((ONE, np.ones((3, 0))), None, {}, r"got \[3, 2\] and \[3, 0\]"),
        ((ONE, np.full((3, 1), np.inf)), None, {}, "targets must be finite, row 0 is not"),
        ((ONE, np.full((3, 1), "a")), None, {}, "targets must be numbers"),
        ((ONE, ONE), (ONE, np.ones((3, 1))), {}, "targets of the training set, float64 .* must be like those of the"),
        ((ONE, ONE), (ONE, None), {}, "the targets of one set are None, and those of the other are not"),
        ((2 * ONE, None), None, {"scaling": "unit"}, "must be bytes or numbers from 0 to 1, got 2 to 2"),
        ((ONE, None), (-ONE, None), {"scaling": "unit"}, "must be bytes or numbers from 0 to 1, got -1 to 1"),
    ],
)
def test_arrays_that_are_no_vectors(train, test, facts, message):
    with pytest.raises(DataError, match=f"problem .*{message}") as caught:
        of(train, test, **facts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (
            BYTES,
            ["--criterion", "cross-entropy"],
            "cross-entropy: it takes classes, and the targets are vectors",
        ),
        (
            OWN,
            ["--criterion", "squared-error"],
            "squared-error: it takes vectors, and the targets are classes",
        ),
        (BYTES, ["--network", "6,3,5"], "end with the 6 entries of its targets, got [6, 3, 5]"),
        (BYTES, ["--network", "6,3,7", "--activation", "tanh"], "end with the 6 entries of its targets, got [6, 3, 7]"),
        (BYTES, ["--activation", "tanh,relu"], "activation must be one, or one for each of 3 hidden layers"),
        (BYTES, ["--activation", "tanh,lineal,tanh"], "unknown activation 'lineal': did you mean 'linear'?"),
        (BYTES, ["--initialization", "spars"], "unknown initialization 'spars': did you mean 'sparse'?"),
        (BYTES, ["--target", "inf"], "target must be a finite number, got inf"),
        (
            BYTES.replace('metric="test loss", ', "").replace("(4.0, 2.0)", "(1.0,)"),
            [],
            'vectors have no accuracy; give it metric="test loss"',
        ),
        (BYTES.replace('metric="test loss"', 'metric="tset loss"'), [], "did you mean 'test loss'?"),
        (BYTES.replace('scaling="unit", ', ""), [], "targets must be from 0 to 1, got -1."),
        (BYTES.replace('scaling="unit", ', ""), [], '; inputs that are targets go from 0 to 1 with scaling="unit"\n'),
        (BYTES.replace('scaling="unit"', 'scaling="units"'), [], "did you mean 'unit'?"),
        (BYTES.replace("epochs=3", "epochs=0"), [], "epochs must be a whole number from 1, or None, got 0"),
        (
            BYTES.replace('"bernoulli"', "lambda z, y: z[7]"),
            [],
            "problem mine, criterion <lambda>: it failed on a sample: IndexError",
        ),
        (BYTES.replace('"bernoulli"', "lambda z, y: (z - 1).log().sum()"), [], "must be finite for outputs of zero"),
        (
            BYTES.replace("def read", "def bernoulli(z, y): ...\n\ndef read").replace('"bernoulli"', "bernoulli"),
            [],
            "there is a criterion bernoulli already",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(kronbench, tmp_path, text, arguments, message):
    (tmp_path / "mine.py").write_text(text)
    flags = ["--optimizer", "sgd", "--output", tmp_path / "out"]
    code, out, error = kronbench("compare", "--problem", tmp_path / "mine.py", *arguments, *flags)
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("bad", ["train", "test"])
@pytest.mark.parametrize(("value", "said"), [(1.5, "got 0 to 1.5"), (-0.5, "got -0.5 to 0.5")])
def test_targets_of_either_set_are_checked(kronbench, tmp_path, bad, value, said):
    """The last of its rows alone is out of bounds."""
    text = """
    import numpy as np
    from suites.harness.data import Arrays, Problem

    def read(root, seed, download):
        inputs, targets = np.arange(80.0).reshape(40, 2), np.tile([[0.0], [0.5]], (20, 1))
        wrong = np.vstack([targets[:-1], [[VALUE]]])
        train, test = (wrong, targets) if "BAD" == "train" else (targets, wrong)
        return Arrays((inputs, train), (inputs, test))

    problem = Problem("mine", (2, 3, 1), read, criterion="bernoulli", metric="test loss", targets=(0.1,), epochs=2)
    """
    (tmp_path / "mine.py").write_text(dedent(text).replace("VALUE", str(value)).replace("BAD", bad))
    flags = ["--optimizer", "sgd", "--batch-size", 10, "--output", tmp_path / "out"]
    code, out, error = kronbench("compare", "--problem", tmp_path / "mine.py", *flags)
    assert (code, out) == (2, "")
    assert f"targets must be from 0 to 1, {said}" in error


def test_a_run_is_judged_by_the_mean_over_samples_of_the_sum_over_outputs(task, tmp_path):
    record = run(task, choose("torch.optim.Adam"), 0, 2, tmp_path)
    first, *_, last = record.points
    assert (first.train_accuracy, first.test_accuracy, last.test_accuracy) == (None, None, None)
    x, y = next(task.dataset.chunks(task.dataset.test))
    logits = task.network(0)(x)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    assert first.test_loss == pytest.approx(each.sum().item() / 20)
    assert last.test_loss < first.test_loss
    facts = record.experiment
    assert (facts.activation, facts.initialization) == (("tanh", "linear", "tanh"), "sparse")
    assert (record.header.problem.metric, record.header.problem.unit) == ("test loss", "nats a row")
    assert not record.header.problem.larger_is_better


@pytest.mark.parametrize(
    "criterion",
    [SQUARED_ERROR, BERNOULLI, replace(SQUARED_ERROR, name="without a formula", constant=None)],
    ids=lambda criterion: criterion.name,
)
def test_the_best_constant_output_is_the_mean_target(criterion):
    targets = np.random.default_rng(0).random((40, 3))
    data = of((np.ones((40, 1)), targets))
    mean = torch.tensor(targets.mean(0))
    best = mean.logit() if criterion is BERNOULLI else mean
    expected = criterion.value(best.expand(40, -1), torch.tensor(targets)).mean().item()
    assert evaluation.constant_loss(criterion, data) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("best", "status"), [(4.2, "at chance"), (6 * math.log(2), "at chance"), (4.1, "finished")])
def test_no_better_than_one_output_for_all_is_chance(task, monkeypatch, best, status):
    monkeypatch.setattr(evaluation, "constant_loss", lambda *given: 6 * math.log(2))  # 4.16
    assert evaluation.status_after_training(task, 5.0, 4.0, best)[0] == status
    assert evaluation.status_after_training(task, 5.0, 5.1, best)[0] == "diverged"


def test_a_run_that_learns_nothing_is_at_chance(own, tmp_path):
    own.write_text(BYTES.replace("(6, 4, 2, 4, 6)", "(6, 6)").replace('("tanh", "linear", "tanh")', '"tanh"'))
    task = Task.load(Settings(str(own), device="cpu"))
    assert run(task, choose("torch.optim.SGD[lr=1e-9]"), 0, 1, tmp_path).status == "at chance"
    assert run(task, choose("sgd[lr=1]"), 0, 5, tmp_path).status == "finished"


@pytest.fixture
def records(tmp_path):
    """Two runs by their test losses."""

    def build(*losses_of_runs):
        facts = Problem("", (1, 1), lambda *given: None, metric="test loss", targets=(60.0, 57.0, 55.0)).facts()
        found = []
        for seed, losses in enumerate(losses_of_runs):
            points = [
                point(n, test_accuracy=None, train_accuracy=None, test_loss=loss)
                for n, loss in enumerate((99, *losses))
            ]
            path = tmp_path / f"{seed}.jsonl"
            write(path, replace(header(seed=seed, epochs=len(losses)), problem=facts), points)
            found.append(read(path))
        return found

    return build


def test_a_target_is_reached_from_above(records):
    one, other = records((58, 57, 56), (61, 59, 56.5))
    assert [to_reach(one, target, "epoch") for target in (60, 57, 55)] == [1, 2, math.inf]
    assert hardest_reached([one, other], (57.0, 60.0, 55.0)) == 57
    assert hardest_reached([other], (50.0, 55.0)) == 55  # the easiest, where none was reached
    judged = judged_by([one])
    assert (judged.key, judged.larger_is_better, judged.axis) == ("test_loss", False, "test loss")
    assert judged.ranked(one, 57) == 56
    assert "test_accuracy" not in [metric.key for metric in metrics_of([one])]


def test_the_command_says_which_loss_was_reached(kronbench, own, tmp_path):
    """With the problem's own length, batch, criterion and activations, also when its configuration is read again."""
    flags = ["--problem", own, "--optimizer", "kfra", "--optimizer", "sgd", "--seeds", 1]
    code, out, error = kronbench("compare", *flags, "--output", tmp_path / "out")
    assert code == 0, error
    assert "bits, bernoulli: " in out
    assert "test loss" in out
    assert "accuracy" not in out + (tmp_path / "out" / "table.md").read_text()
    table = (tmp_path / "out" / "table.md").read_text()
    assert "bernoulli, tanh-linear-tanh, sparse initialization, network 6-4-2-4-6, batch 20, 3 epochs" in table
    assert "never reached test loss 4 (nats a row) counts" in table or "test loss 2 (nats a row) counts" in table
    runs = sorted(path.name for path in (tmp_path / "out" / "runs").iterdir())
    code, _, error = kronbench("compare", "--config", tmp_path / "out" / "config.toml")
    assert code == 0, error
    assert sorted(path.name for path in (tmp_path / "out" / "runs").iterdir()) == runs


def test_a_search_finds_what_a_comparison_takes(kronbench, own, tmp_path):
    """On held-out samples, by their loss; the setting fits the activations and the initialization."""
    tune = ["tune", "--problem", own, "--optimizer", "sgd", "--trials", 2, "--seeds", 1, "--epochs", 2]
    code, out, error = kronbench(*tune, "--output", tmp_path / "tuned")
    assert code == 0, error
    assert "loss" in out
    (found,) = read_tuned(tmp_path / "tuned" / "tuned.toml")
    assert (found.accuracy, found.activation, found.initialization) == (None, ("tanh", "linear", "tanh"), "sparse")
    assert list(found.epochs) == ["2", "4"]  # the hardest first
    compare = ["compare", "--problem", own, "--optimizer", "sgd", "--tuned", tmp_path / "tuned" / "tuned.toml"]
    code, out, error = kronbench(*compare, "--seeds", 1, "--output", tmp_path / "out")
    assert code == 0, error
    assert "Tuned in 2 trials" in out


def test_a_criterion_may_be_a_function_of_one_sample_in_the_problems_file(kronbench, tmp_path):
    assert len(REGRESSION.read_text().splitlines()) <= 30
    flags = ["--epochs", 3, "--seeds", 1, "--optimizer", "sgd", "--optimizer", "ea_cg", "--output", tmp_path]
    code, out, error = kronbench("compare", "--problem", REGRESSION, *flags)
    assert code == 0, error
    assert "my-regression, log_cosh: " in out
    records = [read(path) for path in (tmp_path / "runs").iterdir()]
    assert {record.experiment.criterion for record in records} == {"log_cosh"}
    assert all(record.points[-1].test_loss < 0.9 * record.points[0].test_loss for record in records)


def test_a_criterion_may_look_at_each_output(kronbench, tmp_path):
    """It is tried before work begins on as many outputs as the network has."""
    (tmp_path / "mine.py").write_text(BYTES.replace('"bernoulli"', "lambda z, y: (z[5] - y[0]) ** 2"))
    flags = ["--optimizer", "sgd", "--epochs", 1, "--output", tmp_path / "out"]
    assert kronbench("compare", "--problem", tmp_path / "mine.py", *flags)[0] == 0
    task = Task.load(Settings(problem=str(tmp_path / "mine.py"), device="cpu"))
    assert not task.criterion.convex  # nobody knows


def test_a_criterion_may_be_an_object(own):
    own.write_text(
        BYTES.replace('"bernoulli"', "OWN").replace(
            "def read", "from optimizers.core.criteria import from_function\n"
            "OWN = from_function(lambda z, y: (z - y).abs().pow(4).sum(), convex=True, vectors=True, name='fourth')\n"
            "def read",
        )
    )  # fmt: skip
    task = Task.load(Settings(str(own), device="cpu"))
    assert (task.settings.criterion, task.criterion.name, task.criterion.convex) == ("fourth", "fourth", True)
    task.check(choose("kfra"))
    assert Task.load(Settings(str(own), "squared-error", device="cpu")).criterion is SQUARED_ERROR
