"""``kronbench diff``: better, worse, the same or not to be told apart, and why."""

import json
import re
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from suites.harness.analysis.diff import diff, read_folder
from suites.harness.analysis.statistics import median_interval
from suites.harness.analysis.verdicts import step_ratios, times_changed
from suites.harness.cli import app
from suites.harness.records.facts import Gpu, ProblemFacts
from tests.example_records import ENVIRONMENT, as_schema_2, header, point, write

ROOT = Path(__file__).parents[1]
GPU = Gpu(name="H100", memory_bytes=80 * 10**9, cuda="13.0", tf32=False)


def _write(
    folder, losses, *, status="finished", seconds=1.0, state=80, environment=ENVIRONMENT, at_a_time=1, **experiment
):
    """A record a loss, with seeds 0, 1, ...; the target is reached where the loss is below 1."""
    for seed, loss in enumerate(losses):
        facts = replace(header(environment, **{"epochs": 2, **experiment, "seed": seed}), at_a_time=at_a_time)
        path = folder / "runs" / f"{facts.experiment.optimizer}_seed{seed}.jsonl"
        points = [
            point(
                epoch,
                train_loss=loss,
                test_accuracy=0.96 if epoch and loss < 1 else 0.1,
                training_seconds=seconds * epoch * (1 + seed / 100),
            )
            for epoch in range(1 + facts.experiment.epochs)
        ]
        write(path, facts, points, status, peak_state_bytes=state)


def _write_steps(folder, optimizer="kfac", slower=1.0, sittings=8, noise=0.01, rng=None):
    """Runs of an optimizer, and sittings in which its steps take five times as long as those of SGD, but for noise."""
    _write(folder, [0.5] * 6, optimizer=optimizer)
    ratios = 5 * slower * np.exp((rng or np.random.default_rng(0)).normal(scale=noise, size=sittings))
    seconds = {"sgd": [[0.5, 0.25]] * sittings, optimizer: [[0.5 * ratio, 0.25 * ratio] for ratio in ratios]}
    (folder / "step_seconds.json").write_text(json.dumps(seconds))


def _differences(before, after, *more):
    return diff(read_folder(before), read_folder(after), *more).differences


def _outcomes(before, after, optimizer="sgd"):
    """Outcome and verdict by metric."""
    (difference,) = _differences(before, after)
    rows = [row for row in difference.rows if row.optimizer == optimizer]
    return {row.metric.label if row.metric else "all": (row.outcome, row.verdict) for row in rows}


def test_better_and_worse_are_told(tmp_path):
    _write(tmp_path / "a", [0.5, 0.6, 0.5, 0.4, 0.5, 0.6], seconds=1.0, state=80)
    _write(tmp_path / "b", [0.25, 0.3, 0.25, 0.2, 0.25, 0.3], seconds=2.0, state=40)
    forth, back = _outcomes(tmp_path / "a", tmp_path / "b"), _outcomes(tmp_path / "b", tmp_path / "a")
    assert forth["train loss"] == ("better", "lower by 2x")
    assert back["train loss"] == ("worse", "higher by 2x")
    assert forth["seconds / step"] == back["seconds to 0.95"] == ("not compared", "seconds of two runs")
    assert forth["epochs to 0.95"] == forth["test accuracy"] == ("same", "the same")
    assert forth["optimizer memory"] == ("better", "smaller by 2x")


def test_seconds_of_runs_that_shared_the_machine_say_so(tmp_path):
    _write(tmp_path / "alone", [0.5] * 6)
    _write(tmp_path / "shared", [0.5] * 6, at_a_time=2)
    outcomes = _outcomes(tmp_path / "alone", tmp_path / "shared")
    assert outcomes["seconds / step"] == ("not compared", "other runs shared the machine")


def test_accuracy_is_better_where_it_is_higher(tmp_path):
    _write(tmp_path / "a", [2.0] * 6)
    _write(tmp_path / "b", [0.5] * 6)
    forth, back = _outcomes(tmp_path / "a", tmp_path / "b"), _outcomes(tmp_path / "b", tmp_path / "a")
    assert forth["test accuracy"] == ("better", "higher by 0.86")
    assert back["test accuracy"] == ("worse", "lower by 0.86")
    assert forth["epochs to 0.95"] == ("better", "fewer without bound")
    assert back["gradient-equivalents to 0.95"] == ("worse", "more without bound")


def test_what_cannot_be_told_says_why(tmp_path):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.4, 0.6, 0.4, 0.6, 0.4, 0.6])
    _write(tmp_path / "few", [0.2] * 5, state=90)
    assert _outcomes(tmp_path / "a", tmp_path / "b")["train loss"] == (
        "inconclusive",
        "indistinguishable: 1x [0.8, 1.2]",
    )
    few = _outcomes(tmp_path / "a", tmp_path / "few")
    assert few["train loss"] == ("inconclusive", "too few seeds (5 of 6): 0.4x")
    assert few["optimizer memory"] == ("worse", "larger by 1.12x")


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_runs_that_failed_or_diverged_are_infinite(tmp_path, status):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.5] * 6, status=status)
    outcomes = _outcomes(tmp_path / "a", tmp_path / "b")
    assert outcomes["train loss"] == ("worse", "higher without bound")
    assert outcomes["test accuracy"] == ("worse", "lower by 0.96")
    assert outcomes["epochs to 0.95"] == ("worse", "more without bound")
    assert _outcomes(tmp_path / "b", tmp_path / "b")["train loss"] == ("same", "the same")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"environment": replace(ENVIRONMENT, threads=8)}, "threads 2 -> 8"),
        ({"environment": replace(ENVIRONMENT, gpu=GPU)}, "GPU None -> H100"),
        ({"cuda_graph": True}, "CUDA graph False -> True"),
    ],
)
def test_times_of_another_machine_are_not_compared(tmp_path, change, note):
    """Everything else is."""
    _write_steps(tmp_path / "a")
    _write_steps(tmp_path / "b", slower=9.0)
    _write(tmp_path / "b", [0.4] * 6, optimizer="kfac", **change)
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    assert difference.notes[0] == f"another machine, times are not compared: {note}"
    outcomes = _outcomes(tmp_path / "a", tmp_path / "b", "kfac")
    assert outcomes["step time / SGD"] == ("not compared", "another machine")
    assert all(row.change is None for row in difference.rows if row.reason)
    assert outcomes["train loss"] == ("better", "lower by 1.25x")
    assert outcomes["epochs to 0.95"] == ("same", "the same")


def test_a_package_that_one_side_lacks_is_noted(tmp_path):
    _write(tmp_path / "a", [0.5])
    _write(tmp_path / "b", [0.5], environment=replace(ENVIRONMENT, packages={"soap": "1.0"}))
    assert _differences(tmp_path / "a", tmp_path / "b")[0].notes == ["soap - -> 1.0"]
    assert _differences(tmp_path / "b", tmp_path / "a")[0].notes == ["soap 1.0 -> -"]


def test_each_setup_has_its_own_runs(tmp_path):
    for side, factor in (("a", 1.0), ("b", 0.5)):
        _write(tmp_path / side / "x", [0.5] * 6)
        _write(tmp_path / side / "y", [0.4 * factor] * 6, batch_size=50)
    rows = {one.setup.batch_size: one.rows[0] for one in _differences(tmp_path / "a", tmp_path / "b")}
    assert rows[100].verdict == "the same"
    assert rows[50].verdict == "lower by 2x"


def test_other_software_is_noted_and_times_are_compared(tmp_path):
    _write_steps(tmp_path / "a")
    _write_steps(tmp_path / "b", slower=9.0)
    _write(tmp_path / "b", [0.5] * 6, optimizer="kfac", environment=replace(ENVIRONMENT, torch="2.15"))
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    assert difference.notes == ["torch 2.14 -> 2.15"]
    assert _outcomes(tmp_path / "a", tmp_path / "b", "kfac")["step time / SGD"][0] == "worse"


def test_step_times_are_compared_as_ratios_to_sgd(tmp_path):
    """Several folders of a side are several runs."""
    rng = np.random.default_rng(0)
    for side, slower in (("a", 1.0), ("b", 1.3)):
        for run in range(3):
            _write_steps(tmp_path / side / str(run), slower=slower, rng=rng)
    sides = read_folder(tmp_path / "a"), read_folder(tmp_path / "b")
    times = [[step_ratios(side.step_seconds[folder], "kfac") for folder in sorted(side.step_seconds)] for side in sides]
    assert [len(side) for side in times] == [3, 3]
    (row,) = (row for row in diff(*sides).differences[0].rows if row.metric and row.metric.key == "step_ratio")
    assert row.change == times_changed(*times)
    assert row.change.smallest == 0.05
    assert row.outcome == "worse"
    assert row.verdict.startswith("slower by 1.3x [1.")
    assert row.before == median_interval([ratio for run in times[0] for ratio in run])
    assert row.after.median == pytest.approx(6.5, rel=0.02)
    (row,) = (row for row in diff(*sides, (), 0.5).differences[0].rows if row.metric and row.metric.key == "step_ratio")
    assert row.outcome == "inconclusive"
    assert _outcomes(tmp_path / "a", tmp_path / "a", "kfac")["step time / SGD"] == ("same", "the same")


def test_step_times_of_sgd_are_no_ratio_and_unknown_ones_are_not_compared(tmp_path):
    _write_steps(tmp_path / "a")
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "a", [0.5] * 6, optimizer="kfra")
    assert "step time / SGD" not in _outcomes(tmp_path / "a", tmp_path / "a", "sgd")
    assert _outcomes(tmp_path / "a", tmp_path / "a", "kfra")["step time / SGD"] == ("not compared", "not recorded")


def test_one_run_is_enough_to_ask_for_its_step_time(tmp_path):
    _write(tmp_path / "a", [0.5], optimizer="kfac")
    assert _outcomes(tmp_path / "a", tmp_path / "a", "kfac")["step time / SGD"] == ("not compared", "not recorded")
    assert times_changed([], [[1.0]]) is times_changed([[1.0]], []) is None


def test_step_times_beside_runs_of_two_setups_are_of_nobody_knows_which(tmp_path):
    _write_steps(tmp_path / "a")
    assert read_folder(tmp_path / "a").step_seconds
    _write(tmp_path / "a", [0.5], batch_size=50)
    assert not read_folder(tmp_path / "a").step_seconds


def test_step_times_that_cannot_be_read_are_said(kronbench, tmp_path):
    _write_steps(tmp_path / "a")
    (tmp_path / "a" / "step_seconds.json").write_text('{"sgd": []')
    code, out, error = kronbench("diff", tmp_path / "a", tmp_path / "a")
    assert code == 2
    assert "8 same" not in out
    assert error.startswith(f"left out: {tmp_path / 'a' / 'step_seconds.json'}: ")


def test_twenty_runs_of_one_commit_and_ten_slow_downs(tmp_path):
    """As ``tests/alike.py`` does with true runs: here a busy machine is a random number."""
    rng = np.random.default_rng(0)
    found = {1.0: [], 1.3: []}
    for slower, times in ((1.0, 20), (1.3, 10)):
        for number in range(times):
            sides = [tmp_path / f"{slower}-{number}-{side}" for side in "ab"]
            for side, factor in zip(sides, (1.0, slower), strict=True):
                drift = np.exp(rng.normal(scale=0.02))
                _write_steps(side, slower=factor * drift, noise=0.03, rng=rng)
            (difference,) = _differences(*sides)
            found[slower] += [row.outcome for row in difference.rows if row.outcome in ("better", "worse")]
    assert found[1.0] == []
    assert found[1.3].count("worse") == len(found[1.3]) >= 9


@pytest.mark.parametrize(
    ("loss", "flags", "code"), [(0.4, [], 0), (0.6, [], 0), (0.4, ["--exit-code"], 0), (0.6, ["--exit-code"], 1)]
)
def test_the_exit_code_tells_of_what_got_worse_if_asked(kronbench, tmp_path, loss, flags, code):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [loss] * 6)
    assert kronbench("diff", tmp_path / "a", tmp_path / "b", *flags)[0] == code


def test_what_cannot_be_read_is_exit_code_2_also_where_something_got_worse(kronbench, tmp_path):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.6] * 6)
    (tmp_path / "b" / "runs" / "z.jsonl").write_text("no record\n")
    assert kronbench("diff", tmp_path / "a", tmp_path / "b", "--exit-code")[0] == 2


def test_optimizers_are_paired_as_the_user_says(kronbench, tmp_path):
    """Whatever their options; who is in a pair is in no other."""
    damped = "ea_cg[damping=0.05]"
    for side, name, loss in (("a", "ea_cg", 0.5), ("a", "sgd", 0.5), ("b", damped, 0.25), ("b", "sgd", 0.5)):
        _write(tmp_path / side, [loss] * 6, optimizer=name, options={"damping": 0.01 if name == "ea_cg" else 0.05})
    (difference,) = _differences(tmp_path / "a", tmp_path / "b", [("ea_cg", damped)])
    assert not difference.one_sided
    names = list(dict.fromkeys(row.optimizer for row in difference.rows))
    assert names == [f"ea_cg -> {damped}", "sgd"]
    assert difference.rows[0].verdict == "lower by 2x"
    (alone,) = _differences(tmp_path / "a", tmp_path / "b")
    _write(tmp_path / "c", [0.25] * 6, optimizer=damped, options={"damping": 0.05})
    _write(tmp_path / "c", [0.5] * 6, optimizer="ea_cg", options={"damping": 0.01})
    (both_after,) = _differences(tmp_path / "a", tmp_path / "c", [("ea_cg", damped)])
    assert {row.pair for row in both_after.rows} == {("ea_cg", damped)}
    (both_before,) = _differences(tmp_path / "c", tmp_path / "a", [(damped, "ea_cg")])
    assert {row.pair for row in both_before.rows} == {(damped, "ea_cg")}
    assert alone.one_sided == ["ea_cg (before)", f"{damped} (after)"]
    (crossed,) = _differences(tmp_path / "a", tmp_path / "b", [("sgd", damped), ("ea_cg", "sgd")])
    assert [row.pair for row in crossed.rows[::9]] == [("sgd", damped), ("ea_cg", "sgd")]
    code, out, error = kronbench("diff", tmp_path / "a", tmp_path / "b", "--pair", f"ea_cg={damped}", "--exit-code")
    assert (code, error) == (0, "")
    assert re.search(rf"ea_cg -> {re.escape(damped)} +train loss +0.5 +0.25 +better +lower by 2x", out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pair", "sgd"], "pair 'sgd': expected two optimizers, as in ea_cg=ea_cg[damping=0.05]"),
        (["--pair", "sgd[lr=1]"], "pair 'sgd[lr=1]': expected two optimizers"),
        (
            ["--pair", "kfac[lr=1]=sgd"],
            "pair kfac[lr=1]=sgd: no setup has the first before and the second after; before: ",
        ),
        (["--pair", "sgd=kfac"], "before: sgd; after: kfra, sgd"),
        (["--smallest-effect", "-0.1"], "smallest effect must be a share of at least 0, such as 0.05, got -0.1"),
        (["--smallest-effect", "nan"], "smallest effect must be a share of at least 0"),
    ],
)
def test_flags_that_cannot_be_taken_are_one_line(refused, tmp_path, flags, message):
    _write(tmp_path / "a", [0.5])
    _write(tmp_path / "b", [0.5])
    _write(tmp_path / "b", [0.5], optimizer="kfra")
    assert message in refused("diff", tmp_path / "a", tmp_path / "b", *flags)


def test_the_legend_says_how_many_verdicts_are_false_by_chance_and_the_smallest_effect(kronbench, tmp_path):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.5, 0.6, 0.5, 0.6, 0.4, 0.7], state=90)
    out = " ".join(kronbench("diff", tmp_path / "a", tmp_path / "b", "--smallest-effect", "0.1")[1].split())
    assert "changes of 10 % and less are none" in out
    assert "of the 2 that are judged here some 0.1 would be told apart by chance" in out


def test_two_texts_of_a_problem_are_two_setups(kronbench, tmp_path):
    for side, text in (("a", "one"), ("b", "another")):
        facts = ProblemFacts(metric="m", unit="u", larger_is_better=True, targets=(0.5,), source=text)
        for seed in range(6):
            own = replace(header(dataset="mine", seed=seed), problem=facts)
            write(tmp_path / side / "runs" / f"{seed}.jsonl", own, [point(epoch) for epoch in range(3)])
    code, out, _ = kronbench("diff", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert out.count("on one side only") == 2
    assert out.count("mine (1437 + 360 samples), ") == 2
    assert "nothing in common" in out


def test_other_options_are_not_compared_and_new_ones_do_not_matter(tmp_path):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.5] * 6, options={"lr": 0.2})
    _write(tmp_path / "c", [0.5] * 6, options={"lr": 0.1, "nesterov": False})
    assert _outcomes(tmp_path / "a", tmp_path / "b") == {"all": ("not compared", "other options: lr 0.1 -> 0.2")}
    assert _outcomes(tmp_path / "a", tmp_path / "c")["train loss"] == ("same", "the same")


def test_what_is_on_one_side_only_is_listed(kronbench, tmp_path):
    _write(tmp_path / "a" / "one", [0.5])
    _write(tmp_path / "a" / "one", [0.5], optimizer="kfac")
    _write(tmp_path / "a" / "two", [0.5], criterion="bounded")
    _write(tmp_path / "b", [0.5], optimizer="sgd")
    _write(tmp_path / "b" / "deep" / "er", [0.5], epochs=3)
    code, out, error = kronbench("diff", tmp_path / "a", tmp_path / "b")
    assert (code, error) == (0, "")
    assert "on one side only: kfac (before)" in out
    assert "only (before): digits (1437 + 360 images), bounded" in out
    assert (
        "only (after): digits (1437 + 360 images), cross-entropy, sigmoid, 64-10, batch 100, float32, 3 epochs" in out
    )
    assert "6 same, 2 not compared" in out
    assert "optimizer memory" not in out
    assert "optimizer memory" in kronbench("diff", tmp_path / "a", tmp_path / "b", "--all")[1]


def test_runs_of_one_seed_count_once(tmp_path):
    for folder in ("x", "y", "z"):
        _write(tmp_path / "a" / folder, [0.5, 0.5])
    _write(tmp_path / "b", [0.4, 0.4])
    assert _outcomes(tmp_path / "a", tmp_path / "b")["train loss"] == ("inconclusive", "too few seeds (2 of 6): 0.8x")


def test_records_of_schema_1_have_no_operations_to_compare(tmp_path):
    _write(tmp_path / "a", [0.5] * 6)
    for path in (tmp_path / "a" / "runs").iterdir():
        path.write_text(re.sub(r'"gradient_equivalents":[^,]*,', "", as_schema_2(path.read_text())))
    outcomes = _outcomes(tmp_path / "a", tmp_path / "a")
    assert outcomes["gradient-equivalents to 0.95"] == ("not compared", "not recorded")
    assert outcomes["epochs to 0.95"] == ("same", "the same")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such folder"),
        ({}, "no records in it; there should be runs/*.jsonl"),
        ({"runs/a.jsonl": ""}, "a.jsonl, line 1: expected the header of a record"),
        ({"runs/a.jsonl": '{"kind": "end"}\n'}, "a.jsonl, line 1: expected the header of a record"),
        (
            {"runs/a.jsonl": '{"kind": "header", "schema": 2, "experiment": {}}\n'},
            "a.jsonl, line 1: Object missing required field `optimizer`",
        ),
        ({"runs/a.jsonl": "", "runs/b.jsonl": ""}, "; nor can 1 more"),
        ({"a.jsonl": ""}, "no records in it"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_bad_input_is_one_line(refused, tmp_path, content, message, side):
    _write(tmp_path / "good", [0.5])
    bad = tmp_path / "bad"
    if content is not None:
        (bad / "runs").mkdir(parents=True)
        for name, text in content.items():
            (bad / name).write_text(text)
    assert message in refused("diff", *((bad, tmp_path / "good") if side == 0 else (tmp_path / "good", bad)))


@pytest.mark.parametrize("folder", ["published/digits-cross-entropy", "gpu/NVIDIA-H100-80GB-HBM3/convergence"])
def test_published_records_are_the_same_as_themselves(folder):
    side = read_folder(ROOT / "results" / folder)
    assert not side.unread
    found = diff(side, side)
    assert found.differences
    assert not found.only_before
    assert not found.only_after
    for difference in found.differences:
        assert not difference.notes
        assert {row.outcome for row in difference.rows if row.metric and row.reason != "seconds of two runs"} == {
            "same"
        }


def test_what_is_left_out_is_said_and_is_exit_code_2(kronbench, tmp_path):
    """Records cut to four lines have no end: they are no worse, they are no runs that could be compared."""
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.5] * 6)
    _write(tmp_path / "b", [0.5] * 8, optimizer="kfac", epochs=4)
    broken, *cut = sorted((tmp_path / "b" / "runs").glob("kfac*"))
    for path in cut:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    broken.write_text(broken.read_text().replace('"train_loss":0.5', '"train_loss":0.4'))
    code, out, error = kronbench("diff", tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert "worse" not in out
    assert "6 same" in out
    lines = error.splitlines()
    assert len(lines) == 8
    assert f"left out: {broken}, line 8: its digest" in lines[0]
    assert all(f"left out: {path}: it has no end" in line for path, line in zip(cut, lines[1:], strict=True))


def _commit():
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"]):
        subprocess.run(["git", *command], check=True)


def test_commits_are_compared_by_what_they_hold(tmp_path, monkeypatch):
    """Two commits of results, by name and with a folder; a third side is the folder at hand."""
    monkeypatch.chdir(tmp_path)
    for number, loss in enumerate((0.5, 0.25)):
        _write(tmp_path / "results" / "mine", [loss] * 6)
        _commit()
        subprocess.run(["git", "tag", f"v{number}"], check=True)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")  # sides of a commit count from the top
    for sides in (("v0", "v1"), ("v0:results/mine", "../results/mine")):
        shown = CliRunner().invoke(app, ["diff", *sides])
        assert shown.exit_code == 0, shown.output
        assert "lower by 2x" in shown.output
    before = sorted(tmp_path.rglob("*"))
    files = ("-ofile", "-ofile:results", "--output=file", "--remote=file", "v1:-ofile", "v1:--output=file", "v1:*")
    for side in ("v2", "v1:results/yours", "nowhere", "", ":results", *files):
        refused = CliRunner().invoke(app, ["diff", "--", side, "v1"])
        assert refused.exit_code == 2, side
        assert refused.output.count("\n") == 1
        assert side in refused.output
    assert sorted(tmp_path.rglob("*")) == before


def test_a_commit_with_a_link_to_elsewhere_is_one_line(tmp_path, monkeypatch):
    if not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python takes any link from an archive")
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "results", [0.5])
    (tmp_path / "results" / "link").symlink_to("/etc")
    _commit()
    refused = CliRunner().invoke(app, ["diff", "HEAD", "HEAD"])
    assert refused.exit_code == 2
    assert refused.output.count("\n") == 1
    assert "error: HEAD: the commit holds a file that cannot be taken from it" in refused.output


def test_both_sides_are_shown_whether_they_are_compared_or_not(tmp_path):
    """The medians, and the setup, of what each folder has; ``-`` where it has nothing."""
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.25] * 6, seconds=9.0, environment=replace(ENVIRONMENT, threads=8))
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    rows = {row.metric.key: row for row in difference.rows if row.metric}
    assert (rows["train_loss"].before.median, rows["train_loss"].after.median) == (0.5, 0.25)
    step = rows["seconds_a_step"]
    assert step.reason == "seconds of two runs"
    assert step.after.median == pytest.approx(9 * step.before.median)
    assert str(difference.setup).startswith("digits (1437 + 360 images), cross-entropy, sigmoid, ")
    assert str(replace(difference.setup, synthetic=True)).startswith("digits (1437 + 360 synthetic images), ")


def test_another_commit_and_another_device_are_noted_and_so_are_several_values_of_a_side(tmp_path):
    git = replace(ENVIRONMENT.git, commit="f" * 40, dirty=True)
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.5] * 6, device="cuda", environment=replace(ENVIRONMENT, git=git))
    _write(tmp_path / "c", [0.5] * 2, environment=replace(ENVIRONMENT, torch="2.15"))
    _write(tmp_path / "d", [0.5], environment=replace(ENVIRONMENT, torch="2.15"))
    _write(tmp_path / "d" / "e", [0.5], environment=ENVIRONMENT)
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    assert difference.notes == [
        "another machine, times are not compared: device cpu -> cuda",
        "commit 0123456789 -> ffffffffff with changes",
    ]
    (several,) = _differences(tmp_path / "c", tmp_path / "d")
    assert several.notes == ["torch 2.15 -> 2.14, 2.15"]
    (several,) = _differences(tmp_path / "d", tmp_path / "c")
    assert several.notes == ["torch 2.14, 2.15 -> 2.15"]


def test_what_one_side_did_not_record_is_not_compared(tmp_path):
    _write(tmp_path / "a", [0.5] * 6)
    _write(tmp_path / "b", [0.5] * 6, state=None)
    for before, after, known in (("a", "b", (80, None)), ("b", "a", (None, 80))):
        (difference,) = _differences(tmp_path / before, tmp_path / after)
        (row,) = (row for row in difference.rows if row.metric and row.metric.key == "peak_state")
        assert (row.outcome, row.verdict) == ("not compared", "not recorded")
        assert tuple(side and side.median for side in (row.before, row.after)) == known


def test_optimizers_of_one_side_are_named_with_their_side(tmp_path):
    for folder, other in (("a", "kfac"), ("b", "kfra")):
        _write(tmp_path / folder, [0.5] * 6)
        _write(tmp_path / folder, [0.5] * 6, optimizer=other)
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    assert difference.one_sided == ["kfac (before)", "kfra (after)"]


def test_an_option_that_one_side_does_not_know_is_no_difference_and_another_value_is(tmp_path):
    _write(tmp_path / "a", [0.5] * 6, options={"lr": 0.1})
    _write(tmp_path / "b", [0.5] * 6, options={"lr": 0.1, "capturable": False})
    _write(tmp_path / "c", [0.5] * 6, options={"lr": 0.2, "momentum": 0.5})
    _write(tmp_path / "d", [0.5] * 6, options={"lr": 0.4, "momentum": 0.9})
    assert _outcomes(tmp_path / "a", tmp_path / "b")["train loss"] == ("same", "the same")
    reason = "other options: lr 0.2 -> 0.4, momentum 0.5 -> 0.9"
    assert _outcomes(tmp_path / "c", tmp_path / "d") == {"all": ("not compared", reason)}


def test_versions_of_an_optimizers_package_are_noted(tmp_path):
    """Losses under two versions of a library are compared, and the versions stand above them."""
    for folder, version, loss in (("a", "3.2", 0.5), ("b", "3.3", 0.6)):
        environment = replace(ENVIRONMENT, packages={"heavyball": version})
        _write(tmp_path / folder, [loss] * 6, environment=environment, optimizer="heavyball.SOAP")
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    assert difference.notes == ["heavyball 3.2 -> 3.3"]
    assert _outcomes(tmp_path / "a", tmp_path / "b", "heavyball.SOAP")["train loss"][0] == "worse"


def test_software_of_a_gpu_is_noted(tmp_path):
    _write(tmp_path / "a", [0.5] * 6, environment=replace(ENVIRONMENT, gpu=GPU))
    newer = replace(GPU, cuda="13.1", tf32=True, driver="600")
    _write(tmp_path / "b", [0.5] * 6, environment=replace(ENVIRONMENT, gpu=newer, torch="2.15"))
    (difference,) = _differences(tmp_path / "a", tmp_path / "b")
    assert difference.notes == ["torch 2.14 -> 2.15", "driver None -> 600", "cuda 13.0 -> 13.1", "tf32 False -> True"]


def test_a_folder_in_which_nothing_can_be_read_names_the_first_and_counts_the_others(tmp_path):
    for number in range(3):
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / f"{number}.jsonl").write_text("no record\n")
    with pytest.raises(ValueError, match=r"0\.jsonl.*; nor can 2 more$"):
        read_folder(tmp_path)
    for number in (1, 2):
        (tmp_path / "runs" / f"{number}.jsonl").unlink()
    with pytest.raises(ValueError, match=r"0\.jsonl, line 1: [^;]*[^X]$"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
