"""Many runs at once: the same bits whoever runs them, and a worker that dies costs no run."""

import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver

import psutil
import pytest
import torch

from suites.harness.cli import main
from suites.harness.records.record import read
from suites.harness.training import parallel
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Job, Workers, run_jobs

SPECS = ("sgd", "ea_cg")
KILLS = """
import os, signal
from pathlib import Path
from optimizers.sgd import SGD


class Kills(SGD):
    \"\"\"Takes its process along in the first step that it ever takes.\"\"\"

    def step(self, tape):
        done = Path(__file__).with_suffix(".done")
        if not done.exists():
            done.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().step(tape)
"""
SLOW = """
import os, time
from pathlib import Path
from optimizers.sgd import SGD


class Slow(SGD):
    \"\"\"Says which process it is in, and lasts longer than the one beside it lives.\"\"\"

    def step(self, tape):
        with Path(__file__).with_suffix(".pids").open("a") as pids:
            print(os.getpid(), file=pids)
        time.sleep(0.2)
        super().step(tape)
"""


def jobs(folder, specs=SPECS):
    settings = Task.load(Settings(device="cpu", network=(64, 16, 10))).settings
    return [Job(settings, None, spec, seed, 3, folder) for seed in range(2) for spec in specs]


@pytest.fixture(scope="module")
def losses(without_times):
    return lambda records: [(record.path.name, list(map(without_times, record.points))) for record in records]


@pytest.fixture(scope="module")
def alone(losses, tmp_path_factory):
    return losses(run_jobs(jobs(tmp_path_factory.mktemp("alone")), Workers()))


def test_workers_of_this_machine(alone, losses, tmp_path):
    done = []
    records = run_jobs(jobs(tmp_path), Workers(2), done.append)
    assert losses(records) == alone
    assert sorted(record.path.name for record in done) == sorted(record.path.name for record in records)
    assert {record.header.at_a_time for record in records} == {2}
    assert {record.environment.threads for record in records} == {torch.get_num_threads()}


@pytest.mark.usefixtures("quick_workers")
def test_a_worker_that_is_killed_costs_no_run(alone, losses, tmp_path):
    (tmp_path / "kills.py").write_text(KILLS)
    records = run_jobs(jobs(tmp_path / "runs", (*SPECS, str(tmp_path / "kills.py"))), Workers(2))
    assert (tmp_path / "kills.done").exists()
    assert {record.status for record in records} == {"finished"}
    assert losses(record for record in records if record.experiment.optimizer in SPECS) == alone


@pytest.mark.usefixtures("quick_workers")
def test_a_killed_worker_takes_no_other_along(tmp_path):
    """The run beside it goes on in its process: its record is begun once."""
    (tmp_path / "kills.py").write_text(
        KILLS.replace("if not done", "import time; time.sleep(0.3)\n        if not done")
    )
    (tmp_path / "slow.py").write_text(SLOW)
    settings = Task.load(Settings(device="cpu", network=(64, 16, 10), batch_size=1437)).settings
    specs = [str(tmp_path / f"{name}.py") for name in ("slow", "kills")]
    records = run_jobs([Job(settings, None, spec, 0, 1, tmp_path / "runs") for spec in specs], Workers(2))
    assert all(record.completed for record in records)
    assert (tmp_path / "kills.done").exists()
    assert len(set((tmp_path / "slow.pids").read_text().split())) == 1


def _compare(folder, server):
    """What a process does: the command, with workers that are forked off where it was."""
    forkserver._forkserver._forkserver_address = server
    forkserver._forkserver.ensure_running = lambda: None
    forks = multiprocessing.get_context("forkserver")
    parallel.ProcessPoolExecutor = partial(parallel.ProcessPoolExecutor, context=forks)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "said").open("w") as said:
        os.dup2(said.fileno(), 2)
    flags = ["--optimizer", str(folder / "slow.py"), "--seeds", "2", "--jobs", "2", "--output", str(folder / "out")]
    sys.argv = ["kronbench", "compare", *flags]
    main()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_workers_end_with_their_parent(processes, tmp_path, number, code):
    """In the middle of a step, however the parent ends; where it can it says how to go on."""
    (tmp_path / "slow.py").write_text(SLOW.replace("0.2", "600"))
    parent = processes.Process(target=_compare, args=(tmp_path, forkserver._forkserver._forkserver_address))
    parent.start()
    pids = set()
    for _ in range(600):
        with suppress(FileNotFoundError):
            pids = {int(pid) for pid in (tmp_path / "slow.pids").read_text().split()}
        if len(pids) == 2:
            break
        time.sleep(0.1)
    assert len(pids) == 2
    os.kill(parent.pid, number)
    parent.join(20)
    assert parent.exitcode == code
    workers = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    said = (tmp_path / "said").read_text()
    assert said == ("" if code < 0 else "stopped: what was written stays; the same command again goes on from there\n")


@pytest.mark.usefixtures("processes")
def test_a_dask_cluster(alone, losses, tmp_path):
    """Two worker processes; one of them is killed in the middle of its run."""
    distributed = pytest.importorskip("distributed")
    forks = pytest.importorskip("dask").config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    (tmp_path / "kills.py").write_text(KILLS)
    with forks, distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = Workers(2, "dask", cluster.scheduler_address)
        records = run_jobs(jobs(tmp_path / "runs", (*SPECS, str(tmp_path / "kills.py"))), workers)
    assert (tmp_path / "kills.done").exists()
    assert {record.status for record in records} == {"finished"}
    assert losses(record for record in records if record.experiment.optimizer in SPECS) == alone


def test_a_ray_cluster(alone, losses, tmp_path):
    pytest.importorskip("ray")
    assert losses(run_jobs(jobs(tmp_path), Workers(2, "ray"))) == alone


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [
        (Workers(0), "cpu", "jobs must be 1 or more"),
        (Workers(2), "cuda", "jobs must be 1 on a GPU"),
        (Workers(2, "daks"), "cpu", "did you mean 'dask'"),
    ],
)
def test_what_cannot_be_is_refused(workers, device, message):
    with pytest.raises(ValueError, match=message):
        workers.check(Settings(device=device))


def test_a_backend_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("suites.harness.training.parallel.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'kronbench\[ray\]'"):
        Workers(2, "ray").check(Settings(device="cpu"))


@pytest.fixture
def three_threads():
    """More than a worker has by itself on a small machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("quick_workers", "three_threads")
def test_compare_takes_them(tmp_path):
    """From the command line, an optimizer in a file of its own too; a worker has the threads of its parent."""
    from typer.testing import CliRunner

    from suites.harness.cli import app

    flags = ["--network", "64,8,10", "--epochs", "1", "--seeds", "2", "--jobs", "2"]
    (tmp_path / "mine.py").write_text("from optimizers.sgd import SGD\n\nclass Mine(SGD):\n    pass\n")
    flags += ["--optimizer", "sgd", "--optimizer", str(tmp_path / "mine.py")]
    result = CliRunner().invoke(app, ["compare", *flags, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "2 runs at a time shared the machine" in (tmp_path / "out" / "table.md").read_text()
    records = [read(path) for path in (tmp_path / "out" / "runs").glob("[!.]*.jsonl")]
    assert [record.environment.threads for record in records] == [3] * 4
