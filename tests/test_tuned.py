"""Tuned settings: the file beside a problem, to which tasks it applies, and what the table says."""

from dataclasses import replace

import pytest

from suites.harness.data.tuned import read_tuned, write_tuned
from suites.harness.records.groups import tuning_of
from suites.harness.records.record import read
from suites.harness.training.experiment import Settings, Task
from suites.harness.tuning.choice import at_any_batch, resolve
from tests.example_records import TUNED, header, point, write

SGD = replace(TUNED, network=(64, 64, 32, 16, 10))
PCH2 = replace(
    SGD,
    optimizer="ea_cg",
    options={"gamma": 0, "lr": 0.5, "damping": 0.02},
    search=replace(SGD.search, space={"lr": "0.1:1:log", "damping": "0.01:0.1:log"}, edge=("lr",)),
)


@pytest.fixture(scope="module")
def digits():
    return Task.load(Settings(device="cpu"))


@pytest.mark.parametrize(
    ("spec", "runs_at", "tuning"),
    [
        ("sgd", "sgd[lr=1]", "tuned"),
        ("sgd[lr=1]", "sgd[lr=1]", "tuned"),  # as a configuration file writes it
        ("sgd[momentum=0.9,lr=1.0]", "sgd[lr=1]", "tuned"),  # the same setting in other words
        ("sgd[lr=0.1]", "sgd[lr=0.1]", "given"),  # its default, but written
        ("sgd[momentum=0.5]", "sgd[momentum=0.5]", "untuned"),
        ("kfac", "kfac", "untuned"),
        ("ea_cg", "ea_cg", "untuned"),  # the setting is of another gamma
        ("ea_cg[gamma=0]", "ea_cg[gamma=0,lr=0.5,damping=0.02]", "tuned"),
        ("ea_cg[gamma=0,lr=0.5]", "ea_cg[gamma=0,lr=0.5]", "given"),  # with the default damping
    ],
)
def test_a_bare_method_runs_at_its_setting(digits, spec, runs_at, tuning):
    choice = resolve(spec, digits, [SGD, PCH2])
    assert (choice.spec, choice.tuning) == (runs_at, tuning)
    assert choice.trials == (SGD.search.trials if choice.tuning == "tuned" else None)
    assert choice.edge == (("lr",) if choice.tuning == "tuned" and "gamma" in spec else ())


@pytest.mark.parametrize(
    "other",
    [
        {"problem": "cifar10"},
        {"criterion": "bounded"},
        {"network": (64, 10)},
        {"activation": "relu"},
        {"batch_size": 50},
        {"schedule": "cosine"},
    ],
)
def test_a_setting_of_another_task_does_not_apply(digits, other):
    choice = resolve("sgd", digits, [replace(SGD, **other)])
    assert (choice.spec, choice.tuning) == ("sgd", "untuned")


def test_a_setting_brings_its_batch_size(digits):
    """The batch size was tuned as well, or the setting is of another one."""
    of_500 = replace(SGD, batch_size=500)
    task, choice = at_any_batch("sgd", digits, [of_500, PCH2])
    assert (choice.spec, choice.tuning, choice.trials) == ("sgd[lr=1]", "tuned", SGD.search.trials)
    assert task.settings == replace(digits.settings, batch_size=500)
    assert (task.problem, task.dataset) == (digits.problem, digits.dataset)
    assert at_any_batch("ea_cg[gamma=0]", digits, [of_500, PCH2])[1].spec == "ea_cg[gamma=0,lr=0.5,damping=0.02]"


@pytest.mark.parametrize(
    ("spec", "settings", "count"),
    [
        ("sgd", [], 0),
        ("ea_cg", [PCH2], 0),  # of another gamma
        ("sgd", [replace(SGD, criterion="bounded")], 0),
        ("sgd", [SGD, replace(SGD, batch_size=500)], 2),
    ],
)
def test_one_setting_is_wanted(digits, spec, settings, count):
    wanted = f"tuned settings: expected one of {spec} for digits with cross-entropy, found {count}"
    with pytest.raises(ValueError, match=f"^{wanted}$"):
        at_any_batch(spec, digits, settings)


def test_settings_are_written_and_read_back(tmp_path):
    """What is written anew replaces the same method on the same task, and nothing else."""
    path = tmp_path / "mine.toml"
    write_tuned(path, [SGD, PCH2])
    assert read_tuned(path) == [SGD, PCH2]
    better, bounded = replace(SGD, options={"lr": 0.7}), replace(SGD, criterion="bounded", loss=0.2)
    write_tuned(path, [better, bounded])
    assert read_tuned(path) == [better, PCH2, bounded]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("lr = 1.0", "lr = "), "Invalid value"),
        (("batch_size = 100", 'batch_size = "100"'), "Expected `int`, got `str`"),
        (("batch_size = 100", ""), "missing required field `batch_size`"),
        (("accuracy = 0.9", "accuracy = 9"), "<= 1.0"),
        (("settings", "other"), "Expected `array`, got `null`"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(refused, tmp_path, damage, message):
    path = tmp_path / "digits.toml"
    write_tuned(path, [SGD, PCH2])
    text = path.read_text()
    assert damage[0] in text
    path.write_text(text.replace(*damage))
    error = refused("compare", "--tuned", path, "--output", tmp_path / "out")
    assert str(path) in error
    assert message in error
    assert not (tmp_path / "out").exists()


def test_two_settings_of_one_method_are_refused(tmp_path):
    path = tmp_path / "digits.toml"
    write_tuned(path, [SGD])
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match=r"digits.toml: expected one setting of sgd for each task, found 2"):
        read_tuned(path)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.usefixtures("quick_workers")
def test_the_table_and_the_records_say_what_was_tuned(kronbench, tmp_path, jobs):
    pch2 = replace(PCH2, options={**PCH2.options, "lr": 0.07})
    write_tuned(tmp_path / "found.toml", [SGD, pch2])
    flags = [
        "--tuned",
        tmp_path / "found.toml",
        "--epochs",
        1,
        "--seeds",
        1,
        "--jobs",
        jobs,
        "--output",
        tmp_path / "out",
    ]
    methods = ["sgd", "ea_cg[gamma=0]", "kfac", "ea_cg[lr=0.05]"]
    code, out, error = kronbench("compare", *flags, *(f"--optimizer={spec}" for spec in methods))
    assert code == 0, error
    expected = {
        "sgd[lr=1]": "tuned",
        "ea_cg[gamma=0,lr=0.07,damping=0.02]": "tuned, lr at the edge",
        "kfac": "untuned",
        "ea_cg[lr=0.05]": "given",
    }
    lines = [line.split("|") for line in (tmp_path / "out" / "table.md").read_text().splitlines() if "|" in line]
    assert dict([cell.strip() for cell in line[2:4]] for line in lines[2:]) == expected
    assert out.lower().count("untuned") >= 2  # in the verdict and in the table
    records = [read(path) for path in (tmp_path / "out" / "runs").glob("*.jsonl")]
    assert {r.experiment.optimizer for r in records if r.header.trials == SGD.search.trials} == set(list(expected)[:2])
    assert {r.experiment.optimizer: tuning_of(r) for r in records} == {
        spec: said.partition(",")[0] for spec, said in expected.items()
    }


def test_a_problem_of_ones_own_has_its_settings_beside_it(kronbench, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom suites.problems import digits\n"
        "problem = replace(digits.problem, network=(64, 10))\n"
    )
    write_tuned(tmp_path / "mine.toml", [replace(SGD, problem="mine", network=(64, 10))])
    flags = ["--problem", tmp_path / "mine.py", "--optimizer", "sgd", "--epochs", 1, "--seeds", 1]
    code, out, error = kronbench("compare", *flags, "--output", tmp_path / "out")
    assert code == 0, error
    assert "sgd[lr=1]" in out


@pytest.mark.parametrize(
    ("spec", "tuning"), [("sgd", "untuned"), ("ea_cg[gamma=0]", "untuned"), ("sgd[lr=0.1]", "given")]
)
def test_an_old_record_is_judged_by_its_options(tmp_path, spec, tuning):
    write(tmp_path / "run.jsonl", header(optimizer=spec), [point(epoch) for epoch in range(3)])
    assert tuning_of(read(tmp_path / "run.jsonl")) == tuning
