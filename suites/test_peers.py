"""Whole steps of other libraries' optimizers and of ours: directions first, then times and peaks.

    python -m suites.test_peers        # a table for each network; the libraries are the extra [peers]

Each optimizer has a fresh process of its own. They take their steps in turn, so a machine that slows down slows all of
them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suites.common import CIFAR10, DEVICE, DIGITS, Net
from suites.harness.measure.environment import describe
from suites.harness.measure.timing import BLOCK_SECONDS, WHOLE_STEP, in_turn
from suites.harness.memory.peak import SMALLEST_BYTES
from suites.harness.show.captions import machine
from suites.harness.show.table import Cell, Content, Table, markdown, table_of
from suites.harness.training.experiment import Settings, Task
from suites.own_process import OwnProcess, Work
from suites.peers import PEERS, REFERENCE, Peer

NETS = (DIGITS, CIFAR10)
EQUAL = 1e-9  # the largest relative error of directions in float64
_BATCHES = 8
_ROUNDS = 30
_SECONDS_EACH = 6.0  # a peer that has taken this time in two or more rounds is left out of the next ones
_WARM_UP_SECONDS = 3.0


@dataclass
class Measured:
    """The measurements of a peer.

    version: of its package; empty if it is not installed. reason: why it failed.
    error: the relative error of its direction, over the parameters in :attr:`suites.peers.Peer.equal`, or over all.
    seconds: of a step, by round, for the rounds in which it took part.
    """

    peer: Peer
    version: str
    reason: str = ""
    error: float | None = None
    seconds: dict[int, float] = field(default_factory=dict)
    peak_bytes: int | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether a direction that must be equal is not."""
        return self.peer.equal != "none" and self.error is not None and not self.error <= EQUAL

    def over(self, other: "Measured | None") -> float | None:
        """The median over rounds of the ratio of step times."""
        times = {} if other is None else other.seconds
        ratios = [seconds / times[turn] for turn, seconds in self.seconds.items() if turn in times]
        return median(ratios) if ratios else None


@pytest.mark.parametrize("net", NETS, ids=str)
def test_peers(benchmark: BenchmarkFixture, net: Net) -> None:
    """All peers. The time of this benchmark is that of the whole comparison, and no result."""
    benchmark.group = f"peers, {net}"
    measured = benchmark.pedantic(side_by_side, (work(net),))
    benchmark.extra_info["peers"] = [vars(one) | {"peer": one.peer.name} for one in measured]


def work(net: Net, dtype: str = "float32") -> Work:
    """The first batches of a problem. Every peer takes them again and again."""
    task = Task.load(Settings(net.problem, batch_size=net.batch_size, dtype=dtype, device="cpu"))
    batches = islice(task.dataset.batches(net.batch_size, epoch=1, seed=0), _BATCHES)
    return Work(task.settings.network, DEVICE, [(inputs.numpy(), labels.numpy()) for inputs, labels in batches])


def side_by_side(measured_on: Work, peers: Sequence[Peer] = PEERS) -> list[Measured]:
    """Directions on the digits, in float64; then times and peaks."""
    found = {peer.name: Measured(peer, _version(peer)) for peer in peers}
    processes = {name: OwnProcess(one.peer) for name, one in found.items() if one.version}
    try:
        digits = work(DIGITS, "float64")
        alike = {name: found[one.peer.like].peer for name, one in found.items() if one.peer.like in found}
        compared = {name: process for name, process in processes.items() if name in alike}
        for name, process in compared.items():  # all at once, since nothing is timed
            process.tell("distance", alike[name], digits)
        for name, process in compared.items():
            found[name].error = process.answer()
        for process in processes.values():
            process.ask("begin", measured_on)
        for name, seconds in _seconds(processes).items():
            found[name].seconds = seconds
        for name, process in processes.items():
            found[name].peak_bytes = process.ask("peak_bytes")
            found[name].reason = process.reason
    finally:
        for process in processes.values():
            process.end()
    return list(found.values())


def _version(peer: Peer) -> str:
    try:
        return version(peer.package) if peer.package else "this one"
    except PackageNotFoundError:
        return ""


def _seconds(processes: dict[str, OwnProcess]) -> dict[str, dict[int, float]]:
    spent: Counter[str] = Counter()
    rounds: list[int] = []

    def block(name: str, count: int) -> dict[str, float]:
        if len(rounds) >= 2 and spent[name] > _SECONDS_EACH:
            return {}
        sample = processes[name].ask("block", count) or {}
        spent[name] += count * sample.get(WHOLE_STEP, 0.0)
        return sample

    blocks = {name: partial(block, name) for name in processes}
    samples = in_turn(
        blocks,
        DEVICE,
        _ROUNDS,
        at_most_seconds=10 * _WARM_UP_SECONDS,
        at_least=_ROUNDS,
        block_seconds=BLOCK_SECONDS,
        on_round=rounds.append,
    )
    return {
        name: {turn: sample[WHOLE_STEP] for turn, sample in enumerate(own) if sample} for name, own in samples.items()
    }


def table(measured: Sequence[Measured]) -> Table:
    """A row for each peer."""
    by_name = {one.peer.name: one for one in measured}
    rows: list[dict[str, Content]] = [
        {
            "optimizer": one.peer.name,
            "version": one.version or "not installed",
            "computes": one.peer.computes,
            "time over SGD's": one.over(by_name.get(REFERENCE)),
            "time over ours": one.over(by_name.get(one.peer.like)),
            "peak MB": _peak(one),
            "direction's error": _error(one),
            "note": _note(one),
        }
        for one in measured
    ]
    forms = {"time over SGD's": ".3g", "time over ours": ".3g", "peak MB": ".0f", "direction's error": ".0e"}
    return table_of(rows, forms)


def _peak(one: Measured) -> Content:
    if one.peak_bytes is None or one.peak_bytes >= SMALLEST_BYTES:
        return one.peak_bytes and one.peak_bytes / 1e6
    return f"below {SMALLEST_BYTES / 1e6:.0f}"


def _error(one: Measured) -> Content:
    if one.error is None:
        return None
    return Cell(one.error, note=f"of {one.peer.like}" + (", weights" if one.peer.equal == "weights" else ""))


def _note(one: Measured) -> str:
    if not one.version:
        return f"python -m pip install {one.peer.package}"
    if one.reason:
        return f"failed: {one.reason}"
    return f"WRONG: it must be the direction of {one.peer.like}" if one.is_wrong else one.peer.differs


if __name__ == "__main__":
    print(f"{machine(describe(DEVICE))}.", flush=True)
    for network in NETS:
        print(f"\n{network}:\n\n{markdown(table(side_by_side(work(network))))}", flush=True)
