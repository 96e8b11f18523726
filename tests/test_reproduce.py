"""Tables 2-5 of the paper: errors against the true Hessian, the paper's values, and the command line."""

import math
from csv import DictReader
from dataclasses import replace
from functools import partial

import pytest
import torch

from optimizers.core import CRITERIA, CURVATURES, Tape
from optimizers.core.curvature import pos_eig
from optimizers.core.hessian import mean_hessians
from suites.harness.data.problem import find
from suites.harness.reproduce import results
from suites.harness.reproduce.figures import RESULTS as FIGURES
from suites.harness.reproduce.paper import PUBLISHED
from suites.harness.reproduce.request import Request
from suites.harness.reproduce.tables2to5 import RESULTS as TABLES
from suites.harness.reproduce.tables2to5 import SCALES, balanced, reproduce
from suites.harness.reproduce.tables2to5_errors import layer_errors, record_in_chunks
from suites.harness.reproduce.tables2to5_text import HESSIAN, accumulation, errors_table, order, read_errors
from suites.harness.show.table import table_of
from suites.harness.training import resumable
from suites.harness.training.experiment import Settings, Task

every_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)


def _suited(criterion):
    return [name for name in CURVATURES if criterion.convex or name != "gauss_newton"]


@every_criterion
def test_the_error_of_a_layer(problem, criterion):
    """|| G - |E[hess]| ||_F with the Hessian from autograd, spelt out for every curvature and layer."""
    case = problem(criterion=criterion)
    errors = layer_errors(case.record(), _suited(criterion))
    parameters = dict(case.network.named_parameters())
    for t, bias in enumerate(name for name in parameters if name.endswith("bias")):

        def loss(value, bias=bias):
            logits = torch.func.functional_call(case.network, {**parameters, bias: value}, (case.x,))
            return criterion.value(logits, case.labels).mean()

        eigenvalues, vectors = torch.linalg.eigh(torch.func.hessian(loss)(parameters[bias]).detach())
        target = vectors @ torch.diag(eigenvalues.abs()) @ vectors.T
        assert errors["hessian"][t] == pytest.approx(target.norm().item(), rel=1e-12)
        for name in _suited(criterion):
            error = (CURVATURES[name](case.record())[t].dense() - target).norm().item()
            assert errors[name][t] == pytest.approx(error, rel=1e-10, abs=1e-15)


@every_criterion
def test_the_last_layer_is_exact_but_for_fisher(problem, criterion):
    """Gauss-Newton and PCH start from |E[hess_z C]|: layer k has no error, as in the paper's tables."""
    errors = layer_errors(problem(criterion=criterion).record(), _suited(criterion))
    assert errors["fisher"][-1] > 0.1 * errors["hessian"][-1]
    for name in _suited(criterion)[1:]:
        assert errors[name][-1] <= 1e-15


@every_criterion
def test_one_sample_without_repair_has_no_error(problem, assert_close, without_repair, criterion):
    """With B = 1 Eq. (8) without repair is the exact Hessian, and so is what Pos-Eig makes of both."""
    tape = problem(criterion=criterion, batch=1, seed=3).record()
    for G, H in zip(without_repair(tape), mean_hessians(tape), strict=True):
        assert_close(G, H)
        assert_close(pos_eig(G), pos_eig(H))


@every_criterion
@pytest.mark.parametrize("size", [1, 4, 9, 50])
def test_a_tape_in_chunks_is_the_tape(problem, criterion, size):
    """The same errors as from one pass, whether or not chunks divide the batch; the data are not kept."""
    case = problem(criterion=criterion)
    chunks = zip(case.x.split(size), case.labels.split(size), strict=True)
    tape = record_in_chunks(case.network, criterion, chunks)
    assert isinstance(tape, Tape)
    assert tape.layers[0].input.shape == (9, 0)
    whole, joined = (layer_errors(t, _suited(criterion)) for t in (case.record(), tape))
    for name, values in whole.items():
        assert joined[name] == pytest.approx(values, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_totals_are_roots_of_sums_of_squares(name):
    """Guards the digits: every printed total follows from its printed layers, to the rounding of four digits."""
    assert len(PUBLISHED[name]) == 4 if TABLES[name].criterion == "cross-entropy" else 3
    for *layers, printed in PUBLISHED[name].values():
        assert len(layers) == len(find(TABLES[name].dataset).network) - 1
        assert math.hypot(*layers) == pytest.approx(printed, abs=1.5e-4)


def test_the_subset_is_balanced():
    """As many images of each class, from the training set; more than there are is refused in one line."""
    task = Task.load(Settings(device="cpu"))
    split = balanced(task, 50)
    assert torch.bincount(split.targets).tolist() == [5] * 10
    assert balanced(task, None) is task.dataset.train
    with pytest.raises(ValueError, match="digits: 1000 training images of each class are needed"):
        balanced(task, 10_000)


def test_growing_towards_the_first_layer_is_said():
    """Over the norm of the Hessian: GN's error grows with every layer, PCH-1's does not."""
    rows = {"GN": (0.3, 0.4, 0.0), "PCH-1": (0.1, 0.6, 0.0), HESSIAN: (1.0, 2.0, 4.0)}
    here = [{"curvature": name, "by": "here", "1": a, "2": b, "3": c, "Total": 1.0} for name, (a, b, c) in rows.items()]
    paper = {"curvature": "GN", "by": "paper", "1": 1.0, "2": 9.0, "3": 0.0, "4": 0.0, "Total": 1.0}
    said = accumulation(table_of([*here, paper]))
    assert "layers 1 to 3: GN 0.3, 0.2, 0; PCH-1 0.1, 0.3, 0." in said
    assert said.endswith("as accumulating errors do: GN.")


@pytest.mark.parametrize("name", ["table2", "table4"])
def test_smoke_scale(kronbench, tmp_path, name):
    """From the command line: a record, and a table whose title names what stands in for what the paper had."""
    code, out, err = kronbench("reproduce", name, "--output", tmp_path / "out", "--device", "cpu")
    assert (code, err) == (0, "")
    files = ["bound.csv", "config.toml", "errors.jsonl", "table.csv", "table.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in out
    first = text.splitlines()[0]
    for stand_in in ("digits in place of cifar10", "64-64-32-16-10", "100 of the 1437 training images", "3 iterates"):
        assert stand_in in first
    record = read_errors(tmp_path / "out" / "errors.jsonl")
    assert record.status == "finished"
    assert [point.step for point in record.points] == [0, 20, 40]
    task = TABLES[name].load(SCALES["smoke"], "cpu", None)
    chunks = task.dataset.chunks(balanced(task, SCALES["smoke"].images))
    untrained = record_in_chunks(task.network(0), task.criterion, chunks)
    assert record.points[0].loss == pytest.approx(untrained.loss.item(), rel=1e-6)  # of theta^0
    assert record.points[-1].loss < record.points[0].loss
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = {(row["curvature"], row["by"]): row for row in DictReader(file)}
    assert ("GN", "here") in rows if name == "table2" else ("GN", "here") not in rows
    fisher = [point.errors["fisher"] for point in record.points]
    for t in range(4):
        mean = sum(errors[t] for errors in fisher) / 3
        assert float(rows["Fisher", "here"][str(t + 1)]) == pytest.approx(mean)
    assert float(rows["Fisher", "paper"]["Total"]) == PUBLISHED[name]["fisher"][-1]
    assert float(rows["PCH-1", "here"]["4"]) < 5e-6
    assert order(errors_table(name, record.points), "here").startswith("Fisher > ")
    with (tmp_path / "out" / "bound.csv").open() as file:
        error, bound, share = DictReader(file)
    for t in ("1", "2", "3"):
        assert 0 < float(error[t]) < float(bound[t])
        assert float(share[t]) == pytest.approx(float(error[t]) / float(bound[t]))
    assert "above its bound in 0 of 9 layers and iterates" in text
    code, again, _ = kronbench("reproduce", "--config", tmp_path / "out" / "config.toml")
    assert (code, text in again) == (0, True)


def test_a_failed_run_is_recorded_and_leaves_no_table(tmp_path, monkeypatch):
    """What goes wrong is in the record; a run that diverges stops."""
    task = TABLES["table2"].load(SCALES["smoke"], "cpu", None)
    with monkeypatch.context() as patch:
        patch.setattr("suites.harness.reproduce.tables2to5.layer_errors", lambda tape, names: 1 / 0)
        done = reproduce(TABLES["table2"], SCALES["smoke"], task, Request("smoke", tmp_path))
    assert done.text is None
    assert done.records[0].status == "failed"
    task.dataset.scale.fill_(math.nan)
    done = reproduce(TABLES["table2"], SCALES["smoke"], task, Request("smoke", tmp_path))
    assert done.records[0].status == "diverged"
    assert [path.name for path in tmp_path.iterdir()] == ["errors.jsonl"]


@pytest.mark.parametrize("name", ["table1", "table2", "figure9"])
def test_what_cannot_be_written_is_one_line(kronbench, tmp_path, monkeypatch, name):
    def full(*given):
        raise OSError("No space left on device")

    monkeypatch.setattr("suites.harness.training.resumable.JournalWriter", full)
    code, _, err = kronbench("reproduce", name, "--output", tmp_path / "out", "--device", "cpu")
    assert code == 1
    assert err.startswith("error: No space left on device; what was written stays")
    assert err.count("\n") == 1


class _Died(BaseException):
    pass


@pytest.mark.parametrize("steps_between", [20, 7])  # an epoch has 14
def test_a_table_that_died_goes_on_and_is_not_made_twice(tmp_path, monkeypatch, steps_between):
    """With the numbers of one that did not; another seed is another table, whose checkpoint is not taken."""
    monkeypatch.setattr(resumable, "CHECKPOINT_SECONDS", 0.0)
    table, scale = TABLES["table2"], replace(SCALES["smoke"], iterates=4, steps_between=steps_between)
    task = table.load(scale, "cpu", None)
    measured = []

    def measure(tape, names, dies_at=None):
        if len(measured) == dies_at:
            raise _Died
        measured.append(tape)
        return layer_errors(tape, names)

    def points(folder, seed=0, dies_at=None):
        measured.clear()
        monkeypatch.setattr("suites.harness.reproduce.tables2to5.layer_errors", partial(measure, dies_at=dies_at))
        return reproduce(table, scale, task, Request("smoke", tmp_path / folder, seed=seed)).records[0].points

    whole = points("whole")
    with pytest.raises(_Died):
        points("died", dies_at=2)
    assert points("died") == whole
    assert len(measured) == 2
    assert points("died") == whole
    assert not measured
    with pytest.raises(_Died):
        points("other", seed=1, dies_at=2)
    assert points("other") == whole
    assert len(measured) == 4
    assert not list(tmp_path.glob("*/.*"))


def test_list_says_what_there_is(kronbench, monkeypatch, tmp_path):
    """Every name, what it shows, what it costs at every scale, and where it is done."""
    monkeypatch.chdir(tmp_path)
    for page in (
        "published/table2/table.md",
        "latest/table2-smoke/table.md",
        "latest/figures-cpu/digits-bounded/figure1.md",
    ):
        (tmp_path / "results" / page).parent.mkdir(parents=True)
        (tmp_path / "results" / page).touch()
    code, out, _ = kronbench("reproduce", "--list")
    assert code == 0
    assert out.count("\n          not done here\n") == len(results()) - 2
    assert "\n          done here: results/latest/table2-smoke, results/published/table2\n" in out
    assert "\n          done here: results/latest/figures-cpu/digits-bounded\n" in out
    assert {"table1", "tnt-mnist", *TABLES, *FIGURES} == set(results())
    for name in results():
        assert f"\n{name} " in f"\n{out}"
    for scale in SCALES:
        assert f"{scale}: " in out
