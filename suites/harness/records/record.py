"""Records: one JSON Lines file a run, appended as the run goes.

    {"kind": "header", ...}   schema version, experiment, environment
    {"kind": "point", ...}    a measuring point: step, epoch, seconds, train loss, test accuracy, solver health;
                              since schema 2 each phase's seconds and operations, passes, gradient-equivalents;
                              some records of schema 2 say nothing of pi and of negative curvature
    {"kind": "end", ...}      status: finished, diverged or failed, and the reason

While a run goes on its file ends in ``.part``; it gets its name at the end: one without ``.part`` is whole. A run that
died may go on in its ``.part``.
"""

import json
import math
import os
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any

SCHEMA = 2
_READABLE = (1, SCHEMA)


class RecordWriter:
    """Appends lines to the record of one run; each is on disk when the call returns.

    Args:
        points: that stay of what a run left behind which died, with its header; 0 begins anew.
    """

    def __init__(self, path: Path, header: dict[str, Any], points: int = 0) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        if points:
            self._file = self._part.open("r+b")
            for _ in range(1 + points):
                self._file.readline()
            self._file.truncate()
        else:
            self._file = self._part.open("wb")
            self._write({"kind": "header", "schema": SCHEMA, **header})

    def point(self, **values: Any) -> None:
        """A measuring point."""
        self._write({"kind": "point", **values})

    def end(self, status: str, reason: str | None = None, **values: Any) -> None:
        """The last line; the file gets its final name."""
        self._write({"kind": "end", "status": status, "reason": reason, **values})
        self._file.close()
        os.replace(self._part, self._path)

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write((json.dumps(finite(line), allow_nan=False) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass(frozen=True)
class Record:
    """A record as read back."""

    path: Path
    header: dict[str, Any]
    points: list[dict[str, Any]]
    end: dict[str, Any] | None  # None while the run goes on, or when it died

    @property
    def experiment(self) -> dict[str, Any]:
        return self.header["experiment"]

    @property
    def status(self) -> str:
        return self.end["status"] if self.end else "unfinished"

    @property
    def completed(self) -> bool:
        """Whether the work was done to its end, and its last numbers count."""
        return self.status in ("finished", "at chance")


def read(path: Path) -> Record:
    """Read one record; a last line that was cut off is left out.

    Raises:
        ValueError: if the file is no record of a schema that is known here.
    """
    texts = path.read_text(encoding="utf-8").splitlines()
    lines = _parsed(f"[{','.join(texts)}]")  # at once: so they share their names
    if lines is None:  # the run died while it wrote a line
        lines = list(takewhile(lambda line: line is not None, map(_parsed, texts)))
    if not lines:
        raise ValueError(f"{path}: it is empty")
    if lines[0].get("kind") != "header" or lines[0].get("schema") not in _READABLE:
        raise ValueError(f"{path}: expected a record of schema 1 to {SCHEMA}, found {lines[0].get('schema')}")
    end = lines[-1] if lines[-1]["kind"] == "end" else None
    return Record(path, lines[0], [line for line in lines if line["kind"] == "point"], end)


def _parsed(text: str) -> Any:
    """None for what was cut off."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def finite(value: Any) -> Any:
    """The same with null for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
