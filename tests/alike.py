"""How often verdicts on times are wrong: compares one commit with itself, and with a solver that was slowed down.

Twenty times it does what a user does: ``kronbench compare`` twice, then ``kronbench diff``. Every verdict is false. Ten
times the second side runs with steps of EA-CG that take 1.3 times as long, and EA-CG alone must be named. Run by hand,
not by pytest, also while the machine does other work:

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/alike.py

It ends with exit code 1 if more than one verdict of the twenty is false, fewer than nine of the ten find EA-CG, or
anyone else is named.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from suites.harness.analysis.diff import diff, read_folder

SLOWER = 1.3
COMPARE = "compare --device cpu"


def slowed() -> None:
    """Steps of EA-CG take longer from now on: after each one there is work for 0.3 of its time."""
    from optimizers.ea_cg import EACG
    from suites.harness.measure.clock import seconds_on_a_core
    from suites.harness.measure.step import Step

    step = Step.__call__

    def call(self: Step) -> None:
        if not isinstance(self.optimizer, EACG):
            step(self)
            return
        began = seconds_on_a_core()
        step(self)
        ends = began + SLOWER * (seconds_on_a_core() - began)
        while seconds_on_a_core() < ends:
            sum(range(2000))

    Step.__call__ = call


def compare(output: Path, epochs: int, seeds: int, planted: bool = False) -> Path:
    """One run of the command, in a process of its own."""
    arguments = [*COMPARE.split(), f"--epochs={epochs}", f"--seeds={seeds}", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, __file__, *(["--planted"] if planted else []), "--", *arguments],
        capture_output=True,
        text=True,
    )
    if not (output / "step_seconds.json").exists():
        raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return output


def verdicts(before: Path, after: Path) -> tuple[dict[str, list[str]], int]:
    """By optimizer, what is said to be better or worse; and how many numbers were judged."""
    told: dict[str, list[str]] = {}
    judged = 0
    for difference in diff(read_folder(before), read_folder(after)).differences:
        for row in difference.rows:
            judged += row.outcome != "not compared"
            if row.outcome in ("better", "worse") and row.metric:
                told.setdefault(row.optimizer, []).append(f"{row.metric.label} {row.verdict}")
    return told, judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alike", type=int, default=20)
    parser.add_argument("--planted-slow-downs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=8)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="alike-"))
    false = judged = found = others = 0
    print(f"{folder}; load {os.getloadavg()[0]:.1f}", flush=True)
    for number in range(max(asked.alike, asked.planted_slow_downs)):
        before = compare(folder / f"{number}-before", asked.epochs, asked.seeds)
        if number < asked.alike:
            told, count = verdicts(before, compare(folder / f"{number}-after", asked.epochs, asked.seeds))
            false, judged = false + sum(map(len, told.values())), judged + count
            print(f"{number}: alike: {told or 'nothing told apart'}; load {os.getloadavg()[0]:.1f}", flush=True)
        if number < asked.planted_slow_downs:
            told, _ = verdicts(before, compare(folder / f"{number}-slowed", asked.epochs, asked.seeds, planted=True))
            named = {name: words for name, words in told.items() if name.startswith("ea_cg")}
            found += len(named) == 2 and all("slower" in word for words in named.values() for word in words)
            others += len(told) - len(named)
            print(f"{number}: slowed: {told}; load {os.getloadavg()[0]:.1f}", flush=True)
    print(
        f"{asked.alike} times alike: {false} false verdicts among {judged} numbers. "
        f"{asked.planted_slow_downs} slow-downs of EA-CG by {SLOWER}: {found} found, {others} others named."
    )
    if false > 1 or found < 0.9 * asked.planted_slow_downs or others:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    if "--" not in sys.argv:
        main()
    else:
        from suites.harness.cli import main as kronbench

        if "--planted" in sys.argv:
            slowed()
        sys.argv = ["kronbench", *sys.argv[sys.argv.index("--") + 1 :]]
        kronbench()
