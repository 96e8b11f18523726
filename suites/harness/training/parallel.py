"""Many runs: one after the other in this process, several in turns, in worker processes, or on a Dask or Ray cluster.

The numbers of a run are the same in all ways, bit for bit: a worker has as many threads as this process. Times differ
if runs share the machine, so a record says how many ran at a time; the times of such runs are not compared.
"""

import multiprocessing.connection
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from multiprocessing.connection import Connection
from operator import mul
from pathlib import Path
from threading import Thread
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from suites.harness.measure.limits import SHARE, within_memory
from suites.harness.names import pick
from suites.harness.records.facts import Tuning
from suites.harness.records.record import Record
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import DTYPES, Settings, Task
from suites.harness.training.runner import STEP_SECONDS, run_in_turns
from suites.harness.training.turns import Turns, at_once

BACKENDS = {"loky": "joblib", "dask": "distributed", "ray": "ray"}  # and the module that it needs
# the most that a run takes of a GPU: workspaces, and what an optimizer holds
_BYTES_OF_A_RUN, _TIMES_THE_WEIGHTS = 10**9, 8
_TRIES = 5  # of a run whose workers are killed


@dataclass(frozen=True)
class Job:
    """One run, described so that another process can do it. That process must see the same ``folder``."""

    settings: Settings
    data_root: Path | None
    spec: str
    seed: int
    epochs: int | None
    folder: Path
    resume: bool = True
    tuning: Tuning = "untuned"
    edge: tuple[str, ...] = ()
    trials: int | None = None


@dataclass(frozen=True)
class Workers:
    """The processes that do the runs: ``count`` of this machine (``loky``), or of a cluster.

    address: of the cluster's scheduler; None starts a cluster on this machine.
    at_once: the number of runs that take turns in each process, side by side on its GPU; None: see :meth:`on`.
    step_seconds: a run with a step that takes longer has failed.
    """

    count: int = 1
    backend: str = "loky"
    address: str | None = None
    step_seconds: float = STEP_SECONDS
    at_once: int | None = 1

    def on(self, settings: Settings, timed: bool = False) -> "Workers":
        """With ``at_once`` filled in: 1 on a CPU. On a GPU one run leaves most of it idle, so 8, or fewer if its memory
        holds no more.

        Args:
            settings: with the network.
            timed: whether seconds of the runs are shown. Then there is one at a time.
        """
        if self.at_once is not None:
            return self
        if settings.device != "cuda" or timed:
            return replace(self, at_once=1)
        weights = sum(map(mul, settings.network, settings.network[1:])) * DTYPES[settings.dtype].itemsize
        free, _ = torch.cuda.mem_get_info()
        return replace(self, at_once=max(1, min(8, free // (_BYTES_OF_A_RUN + _TIMES_THE_WEIGHTS * weights))))

    @property
    def here(self) -> bool:
        """Whether this process does the runs itself."""
        return self.count == 1 and self.backend == "loky"

    @property
    def at_a_time(self) -> int:
        """The number of runs that share the machine."""
        return self.count * (self.at_once or 1)

    def check(self, settings: Settings) -> None:
        """Refuse what cannot work, before anything is written.

        Raises:
            ValueError: one line, for an unknown backend, one that is not installed, an address that is not used,
                workers that would share a GPU, or a budget in seconds for runs that share a process.
        """
        needed = pick("backend", self.backend, BACKENDS)
        if find_spec(needed) is None:
            raise ValueError(
                f"backend {self.backend} is not installed: python -m pip install 'kronbench[{self.backend}]'"
            )
        if self.address is not None and self.backend == "loky":
            raise ValueError(f"address {self.address} is of a cluster: add --backend dask or --backend ray")
        if self.count < 1:
            raise ValueError(f"jobs must be 1 or more, got {self.count}")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at once must be 1 or more, got {self.at_once}")
        if (self.at_once or 1) > 1 and settings.budget_seconds is not None:
            raise ValueError("at once must be 1 with a budget in seconds, which others would spend: give --epochs")
        if self.step_seconds <= 0:
            raise ValueError(f"step seconds must be above 0, got {self.step_seconds:g}")
        if self.count > 1 and settings.device == "cuda":
            raise ValueError("jobs must be 1 on a GPU, which processes take in turn: use --at-once")


def run_jobs(
    jobs: Sequence[Job], workers: Workers, on_done: Callable[[Record], None] = lambda record: None
) -> list[Record]:
    """Do all runs; returns their records in the order of the jobs.

    If a worker is killed, for instance because it takes too much memory, its own runs alone are started again, one by
    one. A run whose workers are killed again and again has failed.

    Raises:
        OSError: if a record or a checkpoint cannot be written.
    """
    size = workers.at_once or 1
    groups = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    if workers.backend != "loky":
        as_they_come = chain.from_iterable(_on_a_cluster(groups, workers))
    elif workers.count > 1:
        as_they_come = chain.from_iterable(_in_processes(groups, workers))
    else:
        as_they_come = _run(jobs, workers)
    records: dict[Job, Record] = {}
    for job, record in as_they_come:
        records[job] = record
        on_done(record)
    return [records[job] for job in jobs]


def _run(jobs: Sequence[Job], workers: Workers, lost: str = "") -> Iterator[tuple[Job, Record]]:
    """Do runs in this process."""
    begun = (_begin(job, workers, lost) for job in jobs)
    with within_memory(SHARE / workers.count):
        for number, record in at_once(begun, workers.at_once or 1, jobs[0].settings.device):
            yield jobs[number], record


def _begin(job: Job, workers: Workers, lost: str) -> Turns[Record]:
    loaded = _task(replace(job.settings, batch_size=1), job.data_root)
    return run_in_turns(
        replace(loaded, settings=replace(loaded.settings, batch_size=job.settings.batch_size)),
        replace(choose(job.spec), tuning=job.tuning, edge=job.edge, trials=job.trials),
        job.seed,
        job.epochs,
        job.folder,
        resume=job.resume,
        at_a_time=workers.at_a_time,
        step_seconds=workers.step_seconds,
        lost=lost,
    )


def _of_worker(jobs: Sequence[Job], threads: int, workers: Workers) -> list[tuple[Job, Record]]:
    torch.set_num_threads(threads)
    return list(_run(jobs, workers))


@cache
def _task(settings: Settings, data_root: Path | None) -> Task:
    """The task. A worker loads its data once, for all batch sizes."""
    return Task.load(settings, data_root)


def _on_a_cluster(groups: Sequence[Sequence[Job]], workers: Workers) -> Iterator[list[tuple[Job, Record]]]:
    """On Dask or Ray. Dask returns each result as soon as it is there; Ray cannot."""
    with ExitStack() as stack:
        if workers.backend == "dask":
            stack.enter_context(import_module("distributed").Client(workers.address))
        else:
            import_module("ray").init(workers.address)
            stack.callback(import_module("ray").shutdown)
            import_module("ray.util.joblib").register_ray()
        stack.enter_context(joblib.parallel_config(workers.backend))
        as_they_come = "list" if workers.backend == "ray" else "generator_unordered"
        parallel: Any = joblib.Parallel(workers.count, return_as=as_they_come)
        yield from parallel(joblib.delayed(_of_worker)(group, torch.get_num_threads(), workers) for group in groups)


def _in_processes(groups: Sequence[Sequence[Job]], workers: Workers) -> Iterator[list[tuple[Job, Record]]]:
    """In worker processes of this machine, which end when this process does, however it ends.

    Each worker has an executor of its own: loky ends all workers of an executor when one of them is killed.
    """
    alive, held = multiprocessing.Pipe(duplex=False)  # the system closes it when this process ends

    def worker() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, initializer=_end_with_parent, initargs=(alive,))

    waiting, free = deque((group, _TRIES) for group in groups), [worker() for _ in range(workers.count)]
    busy: dict[Future[Any], tuple[ProcessPoolExecutor, Sequence[Job], int]] = {}
    try:
        while waiting or busy:
            while waiting and free:
                executor, (group, tries) = free.pop(), waiting.popleft()
                with _interrupts_held():
                    future = executor.submit(_of_worker, group, torch.get_num_threads(), workers)
                busy[future] = executor, group, tries
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                executor, group, tries = busy.pop(future)
                if not isinstance(future.exception(), TerminatedWorkerError):
                    free.append(executor)
                    yield future.result()
                elif tries > 1:
                    free.append(worker())
                    waiting.extendleft(([job], tries - 1) for job in reversed(group))
                else:
                    free.append(worker())
                    yield list(_run(group, workers, f"its process was killed {_TRIES} times"))
    finally:
        held.close()
        for executor in [*free, *(executor for executor, _, _ in busy.values())]:
            executor.shutdown()
        alive.close()


def _end_with_parent(alive: Connection) -> None:
    """The first thing a worker does: watch the pipe to its parent, and end at once when the other end closes."""

    def watch() -> None:
        multiprocessing.connection.wait([alive])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started in this block ignore Ctrl-C. Their parent receives it and ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
