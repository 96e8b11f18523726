"""The command line: what goes wrong is one line and an exit code."""

import errno
import os

import pytest

COMMANDS = {
    "compare": ["--epochs", "1", "--seeds", "1", "--optimizer", "sgd"],
    "tune": ["--epochs", "1", "--optimizer", "sgd", "--trials", "1", "--seeds", "1"],
    "reproduce": ["table2"],
    "memory": ["--network", "64,10", "--optimizer", "sgd"],
    "gpu": ["--device", "cpu", "--minutes", "0.01"],
    "report": ["results/published/memory-imagenet10"],
}


BAD_INPUT = [
    ("memory --optimizer kfcc", "did you mean 'kfac'"),
    ("memory --optimizer kfac[inverse=grams]", "inverse must be one of"),
    ("memory --network 64", "two or more sizes"),
    ("memory --network 64,0,10", "at least 1"),
    ("memory --batch-size 0", "batch size must be 1 or more"),
    ("memory --dtype float", "dtype"),
    ("memory --device tpu", "device must be auto, cpu or cuda"),
    ("memory --budget 11GG", "a number with a unit"),
    ("memory --budget 0.1B", "a number with a unit"),
    ("gpu --minutes 0", "minutes must be above 0"),
    ("gpu --device tpu", "device must be auto, cpu or cuda"),
    ("gpu --data-root nowhere", "there is no such folder"),
    ("reproduce", "which result? there are: figure1"),
    ("reproduce tabel2", "unknown result 'tabel2': did you mean 'table2'"),
    ("reproduce figures", "unknown result 'figures': did you mean 'figure"),
    *((f"reproduce {n} --scale smok", "unknown scale 'smok': did you mean 'smoke'") for n in ("table1", "table2")),
    ("reproduce figure1 --scale smok", "unknown scale 'smok': did you mean 'smoke'"),
    ("reproduce table2 --iterates 0", "iterates must be 1 or more, got 0"),
    ("reproduce table2 --steps-between 0", "steps between must be 1 or more, got 0"),
    ("reproduce figure1 --epochs 0", "epochs must be 1 or more, got 0"),
    ("reproduce figure1 --seeds 0", "seeds must be 1 or more, got 0"),
    ("reproduce figure1 --jobs 0", "jobs must be 1 or more, got 0"),
    ("reproduce table1 --images 100", "table1 has no use for images"),
    ("reproduce table1 --steps-between 1", "table1 has no use for steps between"),
    ("reproduce table1 --seed 1", "table1 has no use for seed"),
    ("reproduce table1 --jobs 2", "table1 has no use for runs at a time"),
    ("reproduce table2 --epochs 3", "table2 has no use for epochs"),
    ("reproduce table2 --tuned nowhere", "table2 has no use for tuned"),
    ("reproduce figure1 --iterates 3", "figure1 has no use for iterates"),
    ("reproduce figure1 --seed 1", "figure1 has no use for seed"),
    ("reproduce figure1 --tuned nowhere", "tuned settings nowhere: No such file or directory"),
    ("reproduce table2 --images 5", "images must be a multiple of the 10 classes of digits, got 5"),
    ("reproduce table3 --scale cpu --data-root nowhere", "imagenet10"),
]


@pytest.mark.parametrize(("command", "message"), BAD_INPUT)
def test_bad_input_is_one_line(refused, tmp_path, command, message):
    """Of compare and tune, the tests lie with theirs."""
    error = refused(*command.split(), "--output", tmp_path / "out")
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_alone_it_shows_its_help(kronbench):
    assert kronbench() == kronbench("--help")
    code, out, error = kronbench()
    assert (code, error) == (0, "")
    assert "compare" in out


def test_it_has_a_version(kronbench):
    code, out, _ = kronbench("--version")
    assert code == 0
    assert out.startswith("kronbench 0.")


@pytest.mark.parametrize("below", ["", "below", "below/it"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_no_folder_is_refused(refused, tmp_path, command, below):
    (tmp_path / "file").touch()
    error = refused(command, *COMMANDS[command], "--output", tmp_path / "file" / below)
    assert error.startswith("error: output ")
    assert f"{tmp_path / 'file'} is a file" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_may_not_be_written_is_refused(refused, monkeypatch, tmp_path, command):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    error = refused(command, *COMMANDS[command], "--output", tmp_path / "out" / "below")
    assert f"no permission to write into {tmp_path}" in error


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "gpu"])
def test_a_full_disk_is_one_line(kronbench, monkeypatch, tmp_path, command):
    def full(*where):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, out, error = kronbench(command, *COMMANDS[command], "--output", tmp_path)
    assert (code, out.strip().count("\n")) == (1, 0)  # at most the bars of what was under way
    again = "begins anew" if command in ("memory", "report") else "goes on from there"
    assert error == f"error: No space left on device; what was written stays; the same command again {again}\n"


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch, kronbench):
    monkeypatch.setattr("suites.harness.commands.optimizers.catalog.named", lambda: {}["x"])
    with pytest.raises(KeyError):
        kronbench("list")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('optimizer = "sgd"', "optimizer must be a list, such as ['sgd'], got 'sgd'"),
        ("seeds = [2]", "seeds must be one value, got [2]"),
        ("seeds = 2.5", "--seeds"),
        ("seeds = true", "--seeds"),
    ],
)
def test_a_configuration_is_checked_as_flags_are(kronbench, tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    code, out, error = kronbench("compare", "--config", tmp_path / "c.toml", "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_an_address_that_none_would_use_is_refused(kronbench, tmp_path):
    for command in (["compare"], ["tune"], ["reproduce", "figure1"]):
        code, _, error = kronbench(*command, "--address", "tcp://there:1", "--output", tmp_path / "out")
        assert code == 2
        assert "add --backend dask" in error
