"""The command line: what goes wrong is one line and an exit code."""

import errno
import os

import pytest

COMMANDS = {
    "compare": ["--epochs", "1", "--seeds", "1", "--optimizer", "sgd"],
    "tune": ["--epochs", "1", "--optimizer", "sgd", "--lr", "0.1", "--batch-size", "100"],
    "reproduce": ["table2"],
    "memory": ["--network", "64,10", "--optimizer", "sgd"],
    "gpu": ["--device", "cpu", "--minutes", "0.01"],
    "report": ["results/published/memory-imagenet10"],
}


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
def test_an_output_that_is_no_folder_is_refused(kronbench, tmp_path, command, below):
    (tmp_path / "file").touch()
    code, out, error = kronbench(command, *COMMANDS[command], "--output", tmp_path / "file" / below)
    assert (code, out) == (2, "")
    assert error.startswith("error: output ")
    assert f"{tmp_path / 'file'} is a file" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_may_not_be_written_is_refused(kronbench, monkeypatch, tmp_path, command):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    code, out, error = kronbench(command, *COMMANDS[command], "--output", tmp_path / "out" / "below")
    assert (code, out) == (2, "")
    assert f"no permission to write into {tmp_path}" in error
    assert error.count("\n") == 1


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
    monkeypatch.setattr("suites.harness.commands.list_.catalog.named", lambda: {}["x"])
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


def test_settings_that_are_not_there_are_refused(kronbench, tmp_path):
    code, _, error = kronbench("reproduce", "figure1", "--tuned", tmp_path / "nowhere", "--output", tmp_path / "out")
    assert code == 2
    assert error == f"error: tuned {tmp_path / 'nowhere'}: there is no such folder; kronbench tune writes one\n"
