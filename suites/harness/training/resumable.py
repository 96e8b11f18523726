"""Work that is not done twice: finished work is read from its record, and work that died goes on from its checkpoint.

A checkpoint holds all that a run needs to go on with the same numbers, bit for bit. A record belongs to the same work
if its header has the same ``run``, see :mod:`suites.harness.training.identity`.
"""

import os
import pickle
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from optimizers.core.solvers.inverses import is_out_of_memory
from suites.harness.measure.clock import gpu_alone
from suites.harness.measure.step import Step
from suites.harness.records.facts import SCHEMA, End, Header, Status
from suites.harness.records.journal import Journal, JournalWriter
from suites.harness.training.turns import Turns

X = TypeVar("X")
P = TypeVar("P")

_MOMENT_SECONDS = 0.05
CHECKPOINT_SECONDS = 10.0  # at least, from one to the next: short work needs none
_UNREADABLE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)


class Checkpoint:
    """The checkpoint of one run, in one file that is written whole or not at all. ``run``: the identity of the run."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self._part = path.with_name(path.name + ".part")

    def save(self, step: Step, **progress: Any) -> None:
        """Save weights, optimizer and random states, and ``progress``: numbers, texts, and containers of them.

        Raises:
            OSError: if it cannot be written; the last checkpoint stays.
        """
        state = {
            "run": self._run,
            "network": step.network.state_dict(),
            "optimizer": step.optimizer.state_dict(),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "progress": progress,
        }
        with self._part.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch raises it when a write fails
                raise OSError(f"checkpoint {self._part}: {str(error).splitlines()[0]}") from error
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._part, self._path)

    def load(self) -> Mapping[str, Any] | None:
        """The last checkpoint; None if there is none of this run, or it cannot be read."""
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            return state if state["run"] == self._run else None
        except _UNREADABLE:
            return None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)


def restore(step: Step, state: Mapping[str, Any]) -> None:
    """Set a fresh step to the state that was saved.

    Raises:
        ValueError, RuntimeError, KeyError: if the state is of another network or optimizer.
    """
    step.network.load_state_dict(state["network"])
    step.optimizer.load_state_dict(state["optimizer"])
    for group in step.optimizer.param_groups:  # a captured step reads its rate on the device
        if isinstance(rate := group.get("lr"), torch.Tensor):
            group["lr"] = rate.to(group["params"][0].device)
    cpu, *gpus = state["random"]
    torch.set_rng_state(cpu)
    if gpus:
        torch.cuda.set_rng_state_all(gpus)


@dataclass
class Work:
    """Work that is under way.

    points: the number of measuring points; at the beginning those from before the work died.
    saved: the checkpoint to go on from; None if there is none.
    measured: fields for the last line of the record.
    """

    points: int
    saved: Mapping[str, Any] | None
    measured: dict[str, Any]
    _record: JournalWriter
    _checkpoint: Checkpoint
    _kept: float = field(default_factory=time.monotonic)

    def point(self, point: object) -> None:
        """Write a measuring point."""
        self._record.point(point)
        self.points += 1

    def keep(self, step: Step, **progress: Any) -> None:
        """Save a checkpoint after a measuring point, unless the last one is a few seconds old."""
        if time.monotonic() - self._kept >= CHECKPOINT_SECONDS:
            self._checkpoint.save(step, points=self.points, **progress)
            self._kept = time.monotonic()


def run_once(
    path: Path,
    header: Header[X],
    device: str,
    read: Callable[[Path], Journal[X, P]],
    work: Callable[[Work], Turns[tuple[Status, str | None]]],
    resume: bool = True,
    needs_checkpoint: bool = True,
) -> Turns[Journal[X, P]]:
    """Do the work, unless its record says that it finished. Errors go into the record, except an interrupt or a failed
    write.

    It waits for another process that does the same work, or that times anything on the same GPU. Other works have their
    turns meanwhile, and where ``work`` yields.

    Args:
        path: of the record.
        header: its field ``run`` identifies the work.
        device: on which it runs.
        read: reads the record. One that cannot be read counts as missing.
        work: returns status and reason.
        resume: False starts from the beginning. Work that failed or diverged always does.
        needs_checkpoint: False for work that can go on after any measuring point.

    Raises:
        OSError: if the record or a checkpoint cannot be written; what was written before stays.
    """
    checkpoint = Checkpoint(path.with_name(f".{path.stem}.pt"), header.run or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    while not _taken(lock):
        yield
    with _taken_away(lock):
        done = _same(path, header, read) if resume else None
        if done and done.completed:
            return done
        left = _same(path.with_name(path.name + ".part"), header, read) if resume else None
        points, saved = _to_keep(len(left.points), checkpoint, needs_checkpoint) if left else (0, None)
        with JournalWriter(path, header, points) as record, gpu_alone(device):
            under_way = Work(points, saved, {}, record, checkpoint)
            try:
                status, reason = yield from work(under_way)
                record.end(End(status=status, reason=reason, ended=_now(), **under_way.measured))
            except OSError:
                raise
            except (Exception, SystemExit) as error:
                what = "out of memory" if is_out_of_memory(error) else type(error).__name__
                reason = f"{what}: {_first_line(error)}"
                record.end(End(status="failed", reason=reason, ended=_now(), traceback=traceback.format_exc()))
        checkpoint.remove()
    return read(path)


def _same(path: Path, header: Header[X], read: Callable[[Path], Journal[X, P]]) -> Journal[X, P] | None:
    """The record of the same work; None if there is none that can be read."""
    try:
        record = read(path)
    except (OSError, ValueError):
        return None
    return record if (record.header.run, record.header.schema) == (header.run, SCHEMA) else None


def _to_keep(points: int, checkpoint: Checkpoint, needs_checkpoint: bool) -> tuple[int, Mapping[str, Any] | None]:
    """The number of points to keep from work that died, and its checkpoint, if the record goes as far."""
    if not needs_checkpoint:
        return points, None
    saved = checkpoint.load()
    if saved is None or points < saved["progress"]["points"]:
        return 0, None
    return saved["progress"]["points"], saved


def _taken(lock: FileLock) -> bool:
    """Whether the lock could be taken within a moment."""
    try:
        lock.acquire(timeout=_MOMENT_SECONDS)
    except Timeout:
        return False
    return True


@contextmanager
def _taken_away(lock: FileLock) -> Iterator[None]:
    """Release the lock at the end, and delete its file."""
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
