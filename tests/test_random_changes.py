"""Random changes to records and to what lies beside them: never a traceback, never a changed number."""

import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from suites.harness.analysis.experiment import collect
from suites.harness.records.record import read
from suites.harness.show.overview import overview
from suites.harness.show.sections import all_sections
from suites.harness.show.table import WRITERS
from tests.example_records import header, point, write

RESULTS = Path(__file__).parents[1] / "results"
VALUES = ("null", "true", "-1", "0", "1e999", "NaN", '""', "[]", "{}", "99999999999999999999999", "0.999", '"x"')


def _delete_line(chance, lines):
    del lines[chance.randrange(len(lines))]


def _repeat_line(chance, lines):
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def _swap_lines(chance, lines):
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def _change(chance, lines, pattern, replace):
    """In a line that has the pattern, at one of its places."""
    numbers = [number for number, line in enumerate(lines) if re.search(pattern, line)]
    if not numbers:
        return
    number = chance.choice(numbers)
    match = chance.choice(list(re.finditer(pattern, lines[number])))
    lines[number] = lines[number][: match.start()] + replace(match[0]) + lines[number][match.end() :]


def _flip_digit(chance, lines):
    _change(chance, lines, r"\d", lambda digit: chance.choice([other for other in "0123456789" if other != digit]))


def _replace_value(chance, lines):
    _change(
        chance, lines, r'(?<=[:\[,])\s*(-?[\d.e+-]+|"[^"]*"|null|true|false)(?=[,}\]])', lambda _: chance.choice(VALUES)
    )


def _rename_key(chance, lines):
    _change(chance, lines, r'"\w+"(?=\s*:)', lambda key: f'"x{key[1:]}')


def _cut(chance, lines):
    text = "".join(lines)
    lines[:] = [text[: chance.randrange(len(text))]]


def _no_utf8(chance, lines):
    _change(chance, lines, r"[a-z]", lambda _: "\udcff")


CHANGES = (_delete_line, _repeat_line, _swap_lines, _flip_digit, _replace_value, _rename_key, _cut, _no_utf8)


def _changed(chance, path):
    """Change a file once or twice; whether it is another one now."""
    before = path.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 2))):
        if lines:
            chance.choice(CHANGES)(chance, lines)
    after = "".join(lines)
    path.write_text(after, encoding="utf-8", errors="surrogateescape")
    return after != before


def _read(path):
    """The record and why there is none."""
    try:
        return read(path), ""
    except ValueError as error:
        return None, str(error)


def test_no_changed_number_of_a_record_is_taken(tmp_path):
    """Of five hundred records that were changed, each is refused in one line, or is unfinished."""
    chance, path, counts = random.Random(0), tmp_path / "run.jsonl", Counter()
    points = [point(epoch, train_loss=2.0 / (1 + epoch), test_accuracy=0.2 * epoch) for epoch in range(5)]
    write(path, header(epochs=4), points, peak_state_bytes=1000)
    text, whole = path.read_text(), read(path)
    for _ in range(500):
        path.write_text(text)
        _changed(chance, path)
        record, reason = _read(path)
        if record is None:
            assert re.fullmatch(rf"{re.escape(str(path))}, line \d+: .+", reason)
        else:
            assert record.status == "unfinished" or record == whole
        counts[record.status if record else "refused"] += 1
    assert counts["refused"] > 300
    assert counts["finished"] < 50  # those that a change left as they were


@pytest.fixture
def results(tmp_path):
    """A little of each kind of result."""
    for name in ("sgd", "kfac"):
        for seed in range(2):
            facts = header(optimizer=name, seed=seed, epochs=3)
            points = [point(epoch, test_accuracy=0.3 * epoch) for epoch in range(4)]
            write(tmp_path / "mine" / "runs" / f"{name}_{seed}.jsonl", facts, points, peak_state_bytes=8)
    (tmp_path / "mine" / "config.toml").write_text('optimizer = ["sgd", "kfac"]\ntarget = 0.5\n')
    (tmp_path / "mine" / "step_seconds.json").write_text(json.dumps({"sgd": [1.0, 1.1], "kfac": [2.0, 2.1]}))
    (tmp_path / "mine" / "kfac.toml").write_text('problem = "digits"\ncriterion = "cross-entropy"\nbatch_size = 100\n')
    found = {"setting": "kfac", "training_seconds": 9.5, "gradient_equivalents": 70.5, "batch_size": 100, "runs": 3}
    (tmp_path / "mine" / "kfac.json").write_text(json.dumps(found, indent=1))
    shutil.copytree(RESULTS / "published" / "memory-imagenet10", tmp_path / "memory")
    shutil.copytree(RESULTS / "published" / "table2", tmp_path / "table2")
    gpu = tmp_path / "gpu" / "one"
    gpu.mkdir(parents=True)
    (source,) = (RESULTS / "gpu").glob("*/step_time.json")
    bench = json.loads(source.read_text())
    kept = {"benchmarks": bench["benchmarks"][:3], "machine_info": {"kronbench": bench["machine_info"]["kronbench"]}}
    (gpu / "step_time.json").write_text(json.dumps(kept, indent=1))
    for name in ("step-times.jsonl", "memory.jsonl"):
        shutil.copy(source.with_name(name), gpu)
    machine = next(path for path in (RESULTS / "asv").iterdir() if path.is_dir())
    (tmp_path / "asv" / "machine").mkdir(parents=True)
    shutil.copy(RESULTS / "asv" / "benchmarks.json", tmp_path / "asv")
    for path in sorted(machine.iterdir())[:2]:
        (tmp_path / "asv" / "machine" / path.name).write_text(json.dumps(json.loads(path.read_text()), indent=1))
    return tmp_path


def test_no_change_to_a_folder_of_results_ends_in_a_traceback(results):
    """Each gives its sections and tables, and what cannot be read is one line that names the file."""
    chance, counts = random.Random(1), Counter()
    files = sorted(path for path in results.rglob("*") if path.suffix in (".jsonl", ".json", ".toml", ".csv"))
    assert not collect(results).unread
    for number in range(100):
        path = files[number % len(files)]
        text = path.read_bytes()
        counts["changed"] += _changed(chance, path)
        found = collect(results)
        assert all("\n" not in line and str(results) in line for line in found.unread)
        counts["unread"] += bool(found.unread)
        tables = [table for section in all_sections(found, overview(found.experiments)) for table in section.tables]
        assert all(written(table) for table in tables for written in WRITERS.values())
        path.write_bytes(text)
    assert counts["unread"] > counts["changed"] / 3
