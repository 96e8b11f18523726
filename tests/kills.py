"""Kills commands with SIGKILL at random moments, starts them again until they finish, and compares their records.

The records must equal those of a command that nothing disturbed, except for times. Run by hand, not by pytest:

    PYTHONPATH=. python tests/kills.py --kills 1000

Processes are forked from one that has imported everything, so a kill costs a second, not ten. With ``--jobs 2`` a
worker is killed as often as its parent. It ends with exit code 1, and keeps its folder, if a record differs.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

_SMALL = "--network 64,8,10 --device cpu --optimizer sgd --optimizer ea_cg[max_iter=3]"
_TRIALS = "--trials 4 --epochs 4"
COMMANDS = {
    "compare": f"compare {_SMALL} --epochs 6 --seeds 2",
    "compare --jobs 2": f"compare {_SMALL} --epochs 6 --seeds 2 --jobs 2",
    "compare --at-once 3": f"compare {_SMALL} --epochs 6 --seeds 2 --at-once 3",
    "compare --jobs 2 --at-once 2": f"compare {_SMALL} --epochs 6 --seeds 2 --jobs 2 --at-once 2",
    "tune": f"tune {_SMALL} {_TRIALS} --seeds 2",
    "tune --at-once 4": f"tune {_SMALL} {_TRIALS} --seeds 2 --at-once 4",
    "reproduce table2": "reproduce table2 --device cpu --iterates 4 --images 20",
    "reproduce figure9": "reproduce figure9 --device cpu --epochs 4 --seeds 1",
    "reproduce figure9 --jobs 2": "reproduce figure9 --device cpu --epochs 4 --seeds 1 --jobs 2",
}
_MOST = 20  # kills of one command, which may end after that
_PRELOADED = ("torch._dynamo", "sklearn.model_selection", "matplotlib.pyplot", "joblib.externals.loky")
_ROOMS = ("compare", "reproduce", "tune")


def run(arguments: Sequence[str], output: Path) -> None:
    """What a process does: the command, with a checkpoint after every measuring point. It forks its own workers."""
    import torch

    from suites.harness.cli import main
    from suites.harness.training import parallel, resumable

    torch.set_num_threads(1)
    resumable.CHECKPOINT_SECONDS = 0.0
    forks = multiprocessing.get_context("fork")
    parallel.ProcessPoolExecutor = partial(parallel.ProcessPoolExecutor, context=forks)
    multiprocessing.Pipe = _pipe_that_is_not_inherited
    with output.with_suffix(".log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["kronbench", *arguments, "--output", str(output)]
    main()


def _pipe_that_is_not_inherited(duplex: bool) -> tuple[Connection, Connection]:
    """As that of a parent whose workers are not forked: its sending end is not open in them."""
    receiving, sending = connection.Pipe(duplex)
    os.register_at_fork(after_in_child=sending.close)
    return receiving, sending


def records(output: Path) -> dict[str, list[Any]]:
    """By file: the measuring points, and how it ended, without times."""
    found = {}
    for path in sorted(output.rglob("[!.]*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [line for line in lines if line["kind"] in ("point", "end")]
        found[str(path.relative_to(output))] = [_without_times(line) for line in kept]
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if "seconds" not in k and k not in ("resumed", "ended")}
    return value


def episode(arguments: Sequence[str], output: Path, takes: float, chance: random.Random, most: int) -> int:
    """Start the command until it finishes; returns how often it was killed, at most ``most`` times."""
    kills = 0
    while True:
        process = start(arguments, output)
        if kills < most:
            process.join(chance.uniform(0, takes if chance.random() < 0.2 else takes / 4))
        else:
            process.join()
        if process.exitcode is not None:
            if process.exitcode != 0:
                raise RuntimeError(f"exit code {process.exitcode}: see {output.with_suffix('.log')}")
            return kills
        victims = workers(output) if "--jobs" in arguments and chance.random() < 0.5 else []
        if victims:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
            kills += 1
            process.join(chance.uniform(0, takes))
        if process.exitcode is None and kills < most:
            process.kill()
            process.join()
            kills += 1
        elif process.exitcode is None:
            process.join()


def workers(output: Path) -> list[int]:
    """Processes that hold a record of this folder open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(file.path.startswith(str(output)) and ".jsonl" in file.path for file in process.open_files()):
                found.append(process.pid)
    return found


def start(arguments: Sequence[str], output: Path) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("forkserver").Process(target=run, args=(arguments, output))
    process.start()
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED, *(f"suites.harness.commands.{name}" for name in _ROOMS)])
    folder, chance = Path(tempfile.mkdtemp(prefix="kills-")), random.Random(asked.seed)
    print(folder, flush=True)
    whole, takes, kills = {}, {}, dict.fromkeys(COMMANDS, 0)
    commands = {name: words.split() for name, words in COMMANDS.items()}
    for name, arguments in commands.items():
        for attempt in range(2):  # the first one of all warms up
            output = folder / f"whole-{len(whole)}-{attempt}"
            began = time.monotonic()
            episode(arguments, output, 0, chance, most=0)
            takes[name] = time.monotonic() - began
        whole[name] = records(output)
        print(f"{name}: {takes[name]:.1f} s, {len(whole[name])} records", flush=True)
    wrong = []
    for number in itertools.count():
        name = min(kills, key=lambda one: kills[one])
        left = asked.kills - sum(kills.values())
        if left <= 0:
            break
        output = folder / f"killed-{number}"
        kills[name] += episode(commands[name], output, takes[name], chance, min(left, _MOST))
        time.sleep(0.1)
        if records(output) == whole[name] and not workers(output):
            shutil.rmtree(output)
            output.with_suffix(".log").unlink()
        else:
            wrong.append(output)
            print(f"{name}: {output} differs, or processes were left behind", flush=True)
        if number % 3 == 0:
            print(f"{sum(kills.values())} kills, {number + 1} commands, {len(wrong)} differ", flush=True)
    print(f"{sum(kills.values())} kills: {kills}; commands that were run to their end: {number}, {len(wrong)} differ")
    if wrong:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
