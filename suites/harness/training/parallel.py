"""Many runs at once: in this process one after the other, in workers of this machine, or on a Dask or Ray cluster.

Results are the same bit for bit whoever runs them: a worker takes as many threads as this process has. Times are not,
where runs share cores; a record says how many went at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from suites.harness.names import pick
from suites.harness.records.record import Record
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run

BACKENDS = {"loky": "joblib", "dask": "distributed", "ray": "ray"}  # and what must be installed
_TRIES = 5  # of a run whose worker is killed


@dataclass(frozen=True)
class Job:
    """One run, in words that another process understands; ``folder`` is one that it sees too."""

    settings: Settings
    data_root: Path | None
    spec: str
    seed: int
    epochs: int
    folder: Path
    resume: bool = True


@dataclass(frozen=True)
class Workers:
    """``count`` at a time; ``address`` of a cluster's scheduler, none for one that is started here."""

    count: int = 1
    backend: str = "loky"
    address: str | None = None

    def check(self, device: str) -> None:
        """Refuse what cannot be, before anything is written.

        Raises:
            ValueError: for an unknown backend, one that is not installed, or workers that would share one GPU.
        """
        needed = pick("backend", self.backend, BACKENDS)
        if find_spec(needed) is None:
            raise ValueError(
                f"backend {self.backend} is not installed: python -m pip install 'kronbench[{self.backend}]'"
            )
        if self.count < 1:
            raise ValueError(f"jobs must be 1 or more, got {self.count}")
        if self.count > 1 and device == "cuda":
            raise ValueError("jobs must be 1 on a GPU: runs that are timed do not share one")


def run_jobs(
    jobs: Sequence[Job], workers: Workers, on_done: Callable[[Record], None] = lambda record: None
) -> list[Record]:
    """Run them all; returns their records in the order of the jobs.

    A worker that is killed, as one is that takes too much memory, costs its run alone, which is taken up again.

    Raises:
        TerminatedWorkerError: if the workers of a run die again and again.
    """
    records: dict[Job, Record] = {}
    with _caller(workers) as call:
        calls = (joblib.delayed(call)(job, torch.get_num_threads(), workers.count) for job in jobs)
        as_they_come = "list" if workers.backend == "ray" else "generator_unordered"  # ray's cannot
        parallel: Any = joblib.Parallel(workers.count, return_as=as_they_come)
        for job, record in parallel(calls):
            records[job] = record
            on_done(record)
    return [records[job] for job in jobs]


def _run(job: Job, threads: int, at_a_time: int) -> tuple[Job, Record]:
    torch.set_num_threads(threads)
    loaded = _task(replace(job.settings, batch_size=1), job.data_root)
    task = replace(loaded, settings=replace(loaded.settings, batch_size=job.settings.batch_size))
    record = run(task, choose(job.spec), job.seed, job.epochs, job.folder, resume=job.resume, at_a_time=at_a_time)
    return job, record


@cache
def _task(settings: Settings, data_root: Path | None) -> Task:
    """Each worker loads its data once, for all batch sizes."""
    return Task.load(settings, data_root)


class _Processes:
    """Worker processes of this machine, each of an executor of its own: one that is killed takes no other along."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(count):
            self._free.put(ProcessPoolExecutor(1))

    def run(self, job: Job, threads: int, at_a_time: int, tries: int = _TRIES) -> tuple[Job, Record]:
        """Run in a process that is free, again in a new one where it was killed; called from as many threads."""
        executor = self._free.get()
        try:
            return executor.submit(_run, job, threads, at_a_time).result()
        except TerminatedWorkerError:
            executor = ProcessPoolExecutor(1)
            if tries == 1:
                raise
        finally:
            self._free.put(executor)
        return self.run(job, threads, at_a_time, tries - 1)

    def close(self) -> None:
        """End the processes."""
        while not self._free.empty():
            self._free.get().shutdown()


@contextmanager
def _caller(workers: Workers) -> Iterator[Callable[[Job, int, int], tuple[Job, Record]]]:
    """What joblib shall call, with joblib sending its calls to these workers."""
    with ExitStack() as stack:
        call, backend = _run, workers.backend
        if workers.backend == "dask":
            stack.enter_context(import_module("distributed").Client(workers.address))
        elif workers.backend == "ray":
            import_module("ray").init(workers.address)
            stack.callback(import_module("ray").shutdown)
            import_module("ray.util.joblib").register_ray()
        elif workers.count > 1:
            processes, backend = _Processes(workers.count), "threading"
            stack.callback(processes.close)
            call = processes.run
        stack.enter_context(joblib.parallel_config(backend))
        yield call
