"""Branches of a CUDA graph, rehearsed on a CPU: streams that keep no time, but know what each operation waits for."""

import sys
from contextlib import contextmanager

import pytest
import torch

from optimizers.core import fisher, gauss_newton, kfi, streams
from optimizers.core.solvers import small_batch
from optimizers.core.streams import begun, side_by_side


class Stream:
    """``before``: the operations that are done when the next one begins; ``now``: the current stream."""

    now = None

    def __init__(self, device=None):
        self.device, self.before = device, set()

    def record_event(self):
        return frozenset(self.before)

    def wait_event(self, event):
        self.before |= event

    def wait_stream(self, other):
        self.before |= other.before


@pytest.fixture
def operations(monkeypatch):
    """What each operation waited for, by its name; names are given by :func:`said`."""
    found = {}
    Stream.now = main = Stream()

    @contextmanager
    def on(stream):
        before, Stream.now = Stream.now, stream
        yield
        Stream.now = before

    monkeypatch.setattr(streams, "is_captured", lambda device: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream.now)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)

    def said(name):
        name = f"{name}, {sum(one.startswith(name) for one in found)}"
        found[name] = frozenset(Stream.now.before)
        Stream.now.before.add(name)

    for module, function in ((torch.linalg, "cholesky_ex"), (torch, "cholesky_solve")):
        plain = getattr(module, function)

        def call(*given, plain=plain, function=function, **named):
            said(f"{function} {given[-1].shape[-1]}")
            return plain(*given, **named)

        monkeypatch.setattr(module, function, call)
    yield said, found, main
    streams._branch.cache_clear()


def test_whoever_asks_waits_and_nobody_else(operations):
    said, found, _ = operations
    said("first")
    ask = begun(lambda: said("early") or "result", torch.device("cpu"))
    side_by_side([lambda: said("apart"), lambda: said(f"with the {ask()}")], torch.device("cpu"))
    said("last")
    assert found == {
        "first, 0": set(),
        "early, 0": {"first, 0"},
        "apart, 0": {"first, 0"},
        "with the result, 0": {"first, 0", "early, 0"},
        "last, 0": {"first, 0", "early, 0", "apart, 0", "with the result, 0"},
    }


def test_the_factorizations_of_G_do_not_wait_for_the_space_of_the_batch(operations, problem, monkeypatch):
    """KFI of the paper's form with the Gram matrices of the inputs: of them only their solves wait."""
    _, found, main = operations
    of_kfi = sys.modules["optimizers.core.solvers.kfi"]
    monkeypatch.setattr(of_kfi, "on_gpu", lambda matrix: True)
    monkeypatch.setattr(small_batch, "SMALL", 0)
    tape = problem((20, 7, 9, 6), batch=5).record()
    kfi(tape.layers, gauss_newton(tape), inverse="gram")
    of_batch = "cholesky_ex 5, 0"
    for size in (7, 9, 6):
        assert found[f"cholesky_ex {size}, 0"] == set()
    solves = {name: waited for name, waited in found.items() if name.startswith("cholesky_solve 5")}
    assert len(solves) == 3
    assert all(of_batch in waited for waited in solves.values())
    assert set(found) == main.before  # all is joined
    found.clear()
    kfi(tape.layers, fisher(tape), inverse="gram")
    assert [name for name in found if "cholesky_ex" in name] == ["cholesky_ex 5, 0"]
