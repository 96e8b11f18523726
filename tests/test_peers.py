"""Peers side by side: planted ones that fail, are missing, or go another way; the directions of those installed."""

import re
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from suites import own_process
from suites import test_peers as suite
from suites.common import DIGITS
from suites.own_process import distance, relative_error
from suites.peers import OURS, PEERS, REFERENCE, Peer, of_ours
from suites.test_peers import Measured, side_by_side, table, work

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LATE = """
import os, signal, time
from optimizers.core import TapeOptimizer


class Late(TapeOptimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {{"lr": lr}})
        self.steps = 0

    def step(self, tape):
        self.steps += 1
        if self.steps > 3:
            {what}
"""


def late(folder, name, what):
    """A peer to which something happens in its fourth step."""
    path = folder / f"{name}.py"
    path.write_text(LATE.format(what=what))
    return Peer(name, "", "", partial(of_ours, str(path)))


@pytest.fixture(scope="module")
def measured(processes, tmp_path_factory):
    """By name, what is known of planted peers that ran side by side, and the rows of their table."""
    folder = tmp_path_factory.mktemp("planted")
    sgd = partial(of_ours, "sgd")
    peers = (
        PEERS[0],
        Peer("sgd", "", "", sgd),
        Peer("kfac", "", "", partial(of_ours, "kfac")),
        Peer("astray", "", "", sgd, like="kfac", equal="all"),
        Peer("elsewhere", "", "", sgd, like="kfac", differs="it is SGD"),
        Peer("missing", "no-such-library-at-all", "", sgd, like="sgd", equal="all"),
        Peer("broken", "", "", partial(of_ours, "torch.optim.NoSuch"), like="sgd", equal="all"),
        late(folder, "raises", 'raise RuntimeError("no\\n way")'),
        late(folder, "dies", "os.kill(os.getpid(), signal.SIGKILL)"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "_ROUNDS", 4)
        found = side_by_side(work(DIGITS), peers)
    return {row["optimizer"]: (one, row) for one, row in zip(found, table(found).rows, strict=True)}


def test_one_that_agrees(measured):
    one, row = measured[REFERENCE]
    assert one.error < suite.EQUAL
    assert not one.is_wrong
    assert (row["version"], row["note"]) == (version("torch"), "")
    assert row["time over SGD's"] == 1
    assert row["time over ours"] == one.over(measured["sgd"][0]) > 0
    assert list(one.seconds) == [0, 1, 2, 3]


def test_one_that_goes_another_way(measured):
    one, row = measured["astray"]
    assert one.error > 0.1
    assert row["note"] == "WRONG: it must be the direction of kfac"
    one, row = measured["elsewhere"]
    assert one.error > 0.1
    assert row["note"] == "it is SGD"


def test_one_that_is_not_installed(measured):
    one, row = measured["missing"]
    assert (one.seconds, one.error, one.peak_bytes) == ({}, None, None)
    assert row["version"] == "not installed"
    assert row["note"] == "python -m pip install no-such-library-at-all"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "ValueError: optimizer torch.optim.NoSuch"),
        ("raises", "RuntimeError: no way"),
        ("dies", "its process ended: SIGKILL"),
    ],
)
def test_one_that_fails(measured, name, reason):
    """It says why, and the others are measured all the same."""
    one, row = measured[name]
    assert not one.seconds
    assert row["note"].startswith(f"failed: {reason}")
    assert all(len(measured[other][0].seconds) == 4 for other in (REFERENCE, "sgd", "kfac"))


def test_one_that_does_not_answer(processes, tmp_path, monkeypatch):
    process = own_process.OwnProcess(late(tmp_path, "sleeps", "time.sleep(600)"))
    try:
        process.ask("begin", work(DIGITS))
        assert process.ask("block", 2)
        monkeypatch.setattr(own_process, "ANSWER_SECONDS", 0.5)
        assert process.ask("block", 2) is None
        assert process.reason == "no answer within 0.5 seconds"
        monkeypatch.undo()
        assert process.ask("peak_bytes") is None
    finally:
        process.end()


def test_a_slow_one_is_in_two_rounds(processes, monkeypatch):
    monkeypatch.setattr(suite, "_SECONDS_EACH", 0.0)
    monkeypatch.setattr(suite, "_ROUNDS", 5)
    (one,) = side_by_side(work(DIGITS), OURS[:1])
    assert list(one.seconds) == [0, 1]


def test_times_are_compared_round_by_round():
    """A machine that slows down slows all."""
    sgd, other, none = (Measured(OURS[0], "1") for _ in range(3))
    sgd.seconds, other.seconds = {0: 1.0, 1: 8.0, 2: 2.0}, {0: 3.0, 2: 4.0}
    assert other.over(sgd) == 2.5
    assert other.over(none) is other.over(None) is None


def test_a_peak_is_shown_where_it_says_something():
    def shown(peak_bytes):
        return table([Measured(OURS[0], "1", peak_bytes=peak_bytes)]).texts[0][5]

    assert [shown(None), shown(10**6), shown(10**8)] == ["-", "below 32", "100"]


def test_relative_error():
    ours = [torch.tensor([3.0]), torch.tensor([4.0])]
    assert relative_error([torch.tensor([3.0]), torch.tensor([4.5])], ours) == pytest.approx(0.1)


def test_directions_of_the_weights_alone():
    def shifted(network, lr):
        take = of_ours("sgd", network, lr)

        def both(x, labels):
            take(x, labels)
            for linear in network.linears:
                linear.bias.data += 1

        return both

    digits = work(DIGITS, "float64")
    peers = (Peer("", "", "", shifted, equal=equal) for equal in ("weights", "all"))
    weights, both = (distance(peer, OURS[0], digits) for peer in peers)
    assert weights == 0
    assert both > 0.1


def test_batches_and_weights_are_those_of_training():
    given = work(DIGITS)
    network, _ = given.build(PEERS[0].make, lr=0.1)
    task = DIGITS.task()
    inputs, labels = next(task.dataset.batches(100, epoch=1, seed=0))
    assert torch.equal(network.linears[0].weight, task.network(0).linears[0].weight)
    assert (given.batches[0][0] == inputs.cpu().numpy()).all()
    assert (given.batches[0][1] == labels.cpu().numpy()).all()


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.equal != "none"], ids=lambda peer: peer.name)
def test_directions_that_must_be_equal_are(peer):
    try:
        version(peer.package)
    except PackageNotFoundError:
        pytest.skip(f"{peer.package} is not installed")
    (like,) = (one for one in OURS if one.name == peer.like)
    assert distance(peer, like, work(DIGITS, "float64")) < suite.EQUAL


def test_peers_are_explained_and_installable():
    """Each is compared with one of ours or says why not; the extra installs all libraries, each at one version."""
    ours = {peer.name for peer in OURS}
    for peer in PEERS:
        assert peer.name in ours or peer.like in ours or peer.differs, peer.name
        assert peer.equal == "all" or peer.name in ours or peer.differs, peer.name
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extra = dict(re.match(r"([\w-]+)==([\w.]+)", line).groups() for line in project["optional-dependencies"]["peers"])
    assert set(extra) == {peer.package for peer in PEERS} - {"", "torch"}
