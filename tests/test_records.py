"""Records: written line by line, read back as types, and refused in one line where they do not fit."""

import math
import re

import pytest

from suites.harness.records.facts import End
from suites.harness.records.journal import JournalWriter
from suites.harness.records.record import read
from suites.harness.show.comparison import comparison_table
from tests.example_records import as_schema_2, header, point, write

OLD = """\
{"kind": "header", "schema": 1, "experiment": {"optimizer": "sgd", "options": {"lr": 0.1}, "seed": 0, "epochs": 1, \
"dataset": "digits", "criterion": "cross-entropy", "network": [64, 10], "activation": "sigmoid", "batch_size": 100, \
"dtype": "float32", "device": "cpu", "train_images": 1437, "test_images": 360, "synthetic": false}, "environment": \
{"git": null, "kronbench": null, "python": "3.11", "torch": "2.14", "blas": null, "platform": "Linux", "cpu": "EPYC", \
"cores": 2, "threads": 2, "gpu": null}, "source": null}
{"kind": "point", "step": 0, "epoch": 0, "training_seconds": 0.0, "evaluation_seconds": 0.1, "train_loss": 2.0, \
"train_accuracy": 0.1, "test_loss": 2.0, "test_accuracy": 0.1, "solver": null}
{"kind": "point", "step": 14, "epoch": 1, "training_seconds": 0.5, "evaluation_seconds": 0.2, "train_loss": 1.0, \
"train_accuracy": 0.9, "test_loss": 1.0, "test_accuracy": 0.9, "solver": {"iterations_mean": [4.5], \
"iterations_max": [8], "residual_max": [null], "failed_factorizations": [0], "negative_curvature": [0]}}
{"kind": "end", "status": "finished", "reason": null, "state_bytes": 0, "peak_state_bytes": 8}
"""


@pytest.fixture
def path(tmp_path):
    """A record that finished."""
    write(tmp_path / "run.jsonl", header(), [point(epoch) for epoch in range(3)], peak_state_bytes=8)
    return tmp_path / "run.jsonl"


def test_a_record_reads_back_as_it_was_written(path):
    record = read(path)
    assert record.header == header()
    assert record.points == [point(epoch) for epoch in range(3)]
    assert record.end == End(status="finished", peak_state_bytes=8)


def test_a_record_grows_line_by_line(tmp_path):
    """Every point is on disk at once; a cut-off last line is left out; the name comes at the end."""
    path = tmp_path / "run.jsonl"
    with JournalWriter(path, header()) as record:
        record.point(point(0, train_loss=math.nan))
        part = tmp_path / "run.jsonl.part"
        assert not path.exists()
        part.write_text(part.read_text() + '{"kind": "poi')
        assert read(part).points == [point(0, train_loss=None)]
        assert read(part).status == "unfinished"
    with JournalWriter(path, header(), points=1) as record:  # the cut-off line goes
        for epoch in (1, 2):
            record.point(point(epoch))
        record.end(End(status="diverged"))
    assert read(path).status == "diverged"
    assert [one.epoch for one in read(path).points] == [0, 1, 2]


def test_records_of_schema_1_are_read(tmp_path):
    """They have no operations; the table has a dash for what needs those."""
    (tmp_path / "old.jsonl").write_text(OLD)
    table = comparison_table([read(tmp_path / "old.jsonl")], {"sgd": [[1.0], [1.0]]}, target=0.8)
    shown = dict(zip(table.titles, table.texts[0], strict=True))
    assert shown["epochs to 0.8"] == "1"
    assert shown["gradient-equivalents to 0.8"] == shown["gradient-equivalents / step"] == "-"


def _changed(text, number, pattern, replacement):
    lines = text.splitlines(keepends=True)
    lines[number], count = re.subn(pattern, replacement, lines[number], count=1)
    assert count
    return "".join(lines)


@pytest.mark.parametrize(
    ("number", "pattern", "replacement", "said"),
    [
        (0, '"schema":2', '"schema":99', "line 1: expected a record of schema 1 to 3, found 99"),
        (0, '"seed":0', '"seed":"0"', r"line 1: Expected `int`, got `str` - at `\$.experiment.seed`"),
        (0, '"threads":2,', "", "line 1: Object missing required field `threads`"),
        (1, '"kind":"point",', "", "line 2: Object missing required field `kind`"),
        (1, '"kind":"point"', '"kind":"header"', "line 2: expected point, found header"),
        (2, '"train_loss":1.0', '"train_loss":1e999', "line 3: Number out of range"),
        (2, '"train_loss":1.0', '"train_loss":NaN', "line 3: JSON is malformed"),
        (2, '"train_loss":1.0', '"train_loss":null', "line 5: it finished with a loss that is not finite"),
        (2, '"test_accuracy":0.1', '"test_accuracy":1.1', "line 3: Expected `float` <= 1.0"),
        (2, '"epoch":1', '"epoch":2', "line 3: expected epoch 1, found epoch 2"),
        (2, '"step":14', '"step":0', "line 3: expected epoch 1, found epoch 1 and step 0"),
        (3, '"step":28', '"step":27', "line 4: expected epoch 2"),
        (3, '"training_seconds":0.2', '"training_seconds":0.05', "line 4: its seconds went back from 0.1 to 0.05"),
        (3, "$", "}", "line 4: JSON is malformed"),
        (4, '"finished"', '"fine"', "line 5: Invalid enum value 'fine'"),
        (4, '"peak_state_bytes":8', '"peak_state_bytes":-8', "line 5: Expected `int` >= 0"),
    ],
)
def test_what_does_not_fit_names_the_line_and_the_reason(path, number, pattern, replacement, said):
    path.write_text(_changed(as_schema_2(path.read_text()), number, pattern, replacement))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}, {said}"):
        read(path)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([], "line 1: expected the header"),
        ([1, 0, 2, 3, 4], "line 1: expected the header"),
        ([0, 3, 2, 1, 4], "line 2: expected epoch 0, found epoch 2"),
        ([0, 1, 2, 2, 3, 4], "line 4: expected epoch 2, found epoch 1"),
        ([0, 1, 3, 4], "line 3: expected epoch 1"),
        ([0, 1, 2, 4], "line 4: it finished without all its 2 epochs"),
        ([0, 1, 4, 2, 3], "line 3: expected point, found end"),
        ([0, 0, 1, 2, 3, 4], "line 2: expected point, found header"),
    ],
)
def test_lines_that_are_missing_or_out_of_order_are_seen_in_every_schema(path, order, said):
    lines = as_schema_2(path.read_text()).splitlines(keepends=True)
    path.write_text("".join(lines[number] for number in order))
    with pytest.raises(ValueError, match=said):
        read(path)


def test_a_changed_number_is_seen_by_the_digest(path):
    path.write_text(_changed(path.read_text(), 3, '"test_accuracy":0.1', '"test_accuracy":0.9'))
    with pytest.raises(ValueError, match="line 6: its digest is not that of the lines before"):
        read(path)


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_a_record_without_its_end_is_unfinished(path, lines):
    """In no table, though one of its epochs reached the target."""
    write(path, header(), [point(epoch, test_accuracy=0.9) for epoch in range(3)])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    record = read(path)
    assert record.status == "unfinished"
    assert len(record.points) == lines - 1
    (row,) = comparison_table([record], {}, target=0.8).texts
    assert row[0] == "SGD"
    assert row[-1] == "1 unfinished"
    assert set(row[1:-1]) == {"sgd", "untuned", "-"}


def test_a_digest_without_its_end_or_an_end_without_its_digest_is_refused(path):
    lines = path.read_text().splitlines(keepends=True)
    for kept, said in (
        (lines[:-1], "line 4: expected end"),
        ([*lines[:-2], lines[-1]], "expected point, found digest"),
    ):
        path.write_text("".join(kept))
        with pytest.raises(ValueError, match=said):
            read(path)
