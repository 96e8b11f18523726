"""Many runs: one after the other in this process, several at a time in worker processes, or on a Dask or Ray cluster.

The numbers are the same, bit for bit, wherever a run is done: a worker has as many threads as this process. Times
differ if runs share cores; a record says how many ran at a time.
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
from multiprocessing.connection import Connection
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
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import STEP_SECONDS, run

BACKENDS = {"loky": "joblib", "dask": "distributed", "ray": "ray"}  # and what must be installed
_TRIES = 5  # of a run whose worker is killed each time


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
    """What does the runs: ``count`` processes of this machine (``loky``), or of a cluster.

    address: of the cluster's scheduler; without one, a cluster is started on this machine.
    step_seconds: a run with a step that takes longer has failed.
    """

    count: int = 1
    backend: str = "loky"
    address: str | None = None
    step_seconds: float = STEP_SECONDS

    def check(self, device: str) -> None:
        """Refuse what cannot work, before anything is written.

        Raises:
            ValueError: for an unknown backend, one that is not installed, an address that is not used, or workers
                that would share one GPU.
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
        if self.step_seconds <= 0:
            raise ValueError(f"step seconds must be above 0, got {self.step_seconds:g}")
        if self.count > 1 and device == "cuda":
            raise ValueError("jobs must be 1 on a GPU: runs that are timed do not share one")


def run_jobs(
    jobs: Sequence[Job], workers: Workers, on_done: Callable[[Record], None] = lambda record: None
) -> list[Record]:
    """Do all runs; returns their records in the order of the jobs.

    If a worker is killed, for instance because it takes too much memory, only its own run is started again; one whose
    workers are killed again and again has failed.

    Raises:
        OSError: if a record or a checkpoint cannot be written.
    """
    if workers.backend != "loky":
        as_they_come = _on_a_cluster(jobs, workers)
    elif workers.count > 1:
        as_they_come = _in_processes(jobs, workers)
    else:
        as_they_come = (_run(job, torch.get_num_threads(), workers) for job in jobs)
    records: dict[Job, Record] = {}
    for job, record in as_they_come:
        records[job] = record
        on_done(record)
    return [records[job] for job in jobs]


def _run(job: Job, threads: int, workers: Workers, lost: str = "") -> tuple[Job, Record]:
    torch.set_num_threads(threads)
    loaded = _task(replace(job.settings, batch_size=1), job.data_root)
    task = replace(loaded, settings=replace(loaded.settings, batch_size=job.settings.batch_size))
    choice = replace(choose(job.spec), tuning=job.tuning, edge=job.edge, trials=job.trials)
    with within_memory(SHARE / workers.count):
        record = run(
            task,
            choice,
            job.seed,
            job.epochs,
            job.folder,
            resume=job.resume,
            at_a_time=workers.count,
            step_seconds=workers.step_seconds,
            lost=lost,
        )
    return job, record


@cache
def _task(settings: Settings, data_root: Path | None) -> Task:
    """Each worker loads its data once, for all batch sizes."""
    return Task.load(settings, data_root)


def _on_a_cluster(jobs: Sequence[Job], workers: Workers) -> Iterator[tuple[Job, Record]]:
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
        yield from parallel(joblib.delayed(_run)(job, torch.get_num_threads(), workers) for job in jobs)


def _in_processes(jobs: Sequence[Job], workers: Workers) -> Iterator[tuple[Job, Record]]:
    """In worker processes of this machine, which end when this process does, however it ends.

    Each worker has an executor of its own: loky ends all workers of an executor when one of them is killed.
    """
    alive, held = multiprocessing.Pipe(duplex=False)  # closed when this process ends, by the system if need be

    def worker() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, initializer=_end_with_parent, initargs=(alive,))

    waiting, free = deque((job, _TRIES) for job in jobs), [worker() for _ in range(workers.count)]
    busy: dict[Future[Any], tuple[ProcessPoolExecutor, Job, int]] = {}
    try:
        while waiting or busy:
            while waiting and free:
                executor, (job, tries) = free.pop(), waiting.popleft()
                with _interrupts_held():
                    future = executor.submit(_run, job, torch.get_num_threads(), workers)
                busy[future] = executor, job, tries
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                executor, job, tries = busy.pop(future)
                if not isinstance(future.exception(), TerminatedWorkerError):
                    free.append(executor)
                    yield future.result()
                elif tries > 1:
                    free.append(worker())
                    waiting.appendleft((job, tries - 1))
                else:
                    free.append(worker())
                    yield _run(job, torch.get_num_threads(), workers, f"its process was killed {_TRIES} times")
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
    """Processes started in this block ignore Ctrl-C. Their parent gets it and ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
