"""Journals: JSON Lines that grow as work goes on.

    {"kind": "header", ...}   schema, experiment, environment
    {"kind": "point", ...}    what was measured, one line after the other
    {"kind": "end", ...}      status and reason
    {"kind": "digest", ...}   since schema 3: SHA-256 of all lines before

An unfinished journal is called ``.part``, and gets its name with its end. Work that died may go on in its ``.part``.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

import msgspec

from suites.harness.records.facts import SCHEMA, End, Environment, Header

X = TypeVar("X")
P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Journal(Generic[X, P]):
    """A journal as read back: of an experiment of type X, with points of type P."""

    path: Path
    header: Header[X]
    points: list[P]
    end: End | None  # None: the work goes on, or it died

    @property
    def experiment(self) -> X:
        return self.header.experiment

    @property
    def environment(self) -> Environment:
        return self.header.environment

    @property
    def status(self) -> str:
        return self.end.status if self.end else "unfinished"

    @property
    def ended(self) -> bool:
        """Whether the work came to an end, good or bad."""
        return self.status not in ("unfinished", "stopped")

    @property
    def completed(self) -> bool:
        """Whether all the work was done, so that its last numbers count."""
        return self.status in ("finished", "at chance")

    @property
    def reason(self) -> str | None:
        return self.end.reason if self.end else None


class JournalWriter:
    """Writes a journal; each line is on disk when the call returns.

    Args:
        points: the number of points to keep from the ``.part`` that is there; 0 begins a new one.
    """

    def __init__(self, path: Path, header: Header[X], points: int = 0) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._digest = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        if points:
            self._file = self._part.open("r+b")
            for _ in range(1 + points):
                self._digest.update(self._file.readline())
            self._file.truncate()
        else:
            self._file = self._part.open("wb")
            self._write(_line("header", header))

    def point(self, point: object) -> None:
        """Write a measuring point."""
        self._write(_line("point", point))

    def end(self, end: End) -> None:
        """Write the last lines and give the file its name."""
        line = _line("end", end)
        self._digest.update(line)
        self._write(line + _line("digest", _Digest(sha256=self._digest.hexdigest())))
        self._file.close()
        os.replace(self._part, self._path)

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._digest.update(line)


def read_journal(path: Path, experiment: type[X], point: type[P]) -> Journal[X, P]:
    """Read a journal. A last line that is cut off is left out.

    Raises:
        ValueError: one line that names the file, the line and the reason, if a line does not fit its type or its place,
            or if the digest is not that of the lines before.
        OSError: if there is no such file.
    """
    *lines, _ = path.read_bytes().split(b"\n")  # the last part has no newline: it was cut off

    def line(number: int, kind: type[T]) -> T:
        try:
            return _decoder(kind).decode(lines[number])
        except ValueError as error:
            raise misfit(path, number, str(error)) from None

    kinds = [line(number, _Kind).kind for number in range(len(lines))]
    if kinds[:1] != ["header"]:
        raise misfit(path, 0, "expected the header of a record")
    header = line(0, Header[experiment])
    if not 1 <= header.schema <= SCHEMA:
        raise misfit(path, 0, f"expected a record of schema 1 to {SCHEMA}, found {header.schema}")
    last = ["end", "digest"] if header.schema >= 3 else ["end"]
    count = len(kinds) - len(last) if "end" in kinds else len(kinds)
    for number, kind in enumerate(kinds[1:], start=1):
        if kind != (expected := "point" if number < count else last[number - count]):
            raise misfit(path, number, f"expected {expected}, found {kind}")
    if count < len(kinds) and header.schema >= 3:
        before = b"".join(text + b"\n" for text in lines[:-1])
        if line(count + 1, _Digest).sha256 != hashlib.sha256(before).hexdigest():
            raise misfit(path, count + 1, "its digest is not that of the lines before: they were changed")
    points = [line(number, point) for number in range(1, count)]
    return Journal(path, header, points, line(count, End) if count < len(kinds) else None)


def misfit(path: Path, number: int, reason: str) -> ValueError:
    """The error for a line of a file. The message counts lines from 1, ``number`` from 0."""
    return ValueError(f"{path}, line {number + 1}: {reason}")


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: str


@dataclass(frozen=True, slots=True)
class _Digest:
    sha256: str


def _line(kind: str, facts: object) -> bytes:
    return msgspec.json.encode({"kind": kind, **msgspec.to_builtins(facts)}) + b"\n"


@cache
def _decoder(kind: type[T]) -> "msgspec.json.Decoder[T]":
    return msgspec.json.Decoder(kind)
