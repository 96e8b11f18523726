"""Seconds of steps and of their phases, by a clock that the test sets, and bytes by phase."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from optimizers.core import TapeOptimizer
from suites.harness.measure import clock as clocks
from suites.harness.measure.clock import PhaseClock, Stopwatch, seconds_on_a_core, seconds_waited
from suites.harness.measure.live_bytes import phase_bytes
from suites.harness.measure.timing import in_turn, interleaved_phases, interleaved_seconds
from suites.harness.records.conventions import PHASES
from suites.harness.training.catalog import choose


class Known(TapeOptimizer):
    """Forms 4000 bytes in one phase and 12000 in the next, and keeps 1000 of each step."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})
        self.kept = []

    def step(self, tape):
        self.on_phase("curvature")
        matrix = torch.empty(1000)
        del matrix
        self.on_phase("solve")
        first, second = torch.empty(1000), torch.empty(2000)
        del first, second
        self.on_phase("update")
        self.kept.append(torch.empty(250))


class Clock:
    """A clock that stands still but for :meth:`pass_`."""

    def __init__(self):
        self.now = 100.0
        self.took = []

    def pass_(self, name, seconds):
        self.took.append(name)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def known(task):
    step = task.step(choose("sgd"), seed=0)
    step.optimizer = Known(step.network.parameters())
    return step


def test_seconds_are_those_of_one_step(clock):
    """Steps of a millisecond come in blocks of four, since a block is four milliseconds; a slow step stands alone."""
    steps = {"fast": lambda: clock.pass_("fast", 0.001), "slow": lambda: clock.pass_("slow", 0.5)}
    seconds = interleaved_seconds(steps, "cpu", rounds=2)
    assert seconds == {"fast": pytest.approx([0.001] * 2), "slow": pytest.approx([0.5] * 2)}
    assert sorted(clock.took[-10:-5]) == sorted(clock.took[-5:]) == [*["fast"] * 4, "slow"]


def test_each_round_is_told_and_the_last_one_is_the_first_after_the_time(clock):
    """The orders are those of any other run."""
    orders, told = [], []
    for _ in range(2):
        clock.took.clear()
        blocks = {name: lambda count, name=name: clock.pass_(name, 1.0) or {"part": 1.0} for name in "abc"}
        samples = in_turn(blocks, "cpu", 9, 12.0, 2, 0.004, told.append)
        assert {name: len(own) for name, own in samples.items()} == dict.fromkeys("abc", 5)  # 15 s: above 12, not at 12
        orders.append("".join(clock.took))
    assert told == [1, 2, 3, 4, 5] * 2
    assert orders[0] == orders[1]


def test_the_order_changes_from_round_to_round(clock):
    """So that nobody is always timed after the same other one."""
    steps = {name: partial(clock.pass_, name, 1.0) for name in "abcd"}
    interleaved_seconds(steps, "cpu", rounds=60, at_most_seconds=1000)
    took = clock.took[-4 * 60 :]
    assert all(sorted(took[begin : begin + 4]) == list("abcd") for begin in range(0, 240, 4))
    assert set(pairwise(took)) == set(product("abcd", repeat=2))


def test_the_first_steps_are_not_counted(clock):
    """A step is slow for five times, as one that is captured in a graph."""
    calls = iter([3.0, 0.2, 0.2, 0.2, 0.2])
    seconds = interleaved_seconds({"step": lambda: clock.pass_("step", next(calls, 0.1))}, "cpu", 4, at_most_seconds=60)
    assert seconds["step"] == pytest.approx([0.1] * 4)


def test_a_step_slower_than_all_the_time_there_is_warms_up_once(clock):
    seconds = interleaved_seconds({"step": lambda: clock.pass_("step", 9.0)}, "cpu", at_most_seconds=20, at_least=2)
    assert clock.took == ["step"] * (1 + 3)  # a round begins at 0, 9 and 18 seconds
    assert seconds["step"] == pytest.approx([9.0] * 3)


def test_a_cpu_warms_up_for_a_tenth_of_the_time_and_one_step(gpu):
    interleaved_seconds({"step": lambda: gpu.pass_("step", 1.0)}, "cpu", rounds=1, at_most_seconds=20)
    assert gpu.took == ["step"] * (3 + 1)  # 0, 1 and 2 seconds were not above 2; no GPU was touched


def test_a_slow_first_step_does_not_shorten_the_blocks(clock):
    calls = iter([0.5])
    interleaved_seconds({"step": lambda: clock.pass_("step", next(calls, 0.001))}, "cpu", rounds=1)
    assert len(clock.took) == 5 + 4


class Event:
    """A CUDA event on a GPU that is not there; its times are in milliseconds, as torch's are."""

    def __init__(self, clock):
        self.clock = clock

    def record(self):
        self.at = self.clock.now

    def synchronize(self):
        self.clock.took.append("waited")

    def elapsed_time(self, later):
        return 1000 * (later.at - self.at)


@pytest.fixture
def gpu(clock, monkeypatch, tmp_path):
    """The least of torch.cuda that a clock needs."""
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event(clock))
    stream = SimpleNamespace(synchronize=lambda: clock.took.append("waited"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: stream.synchronize())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: clock.took.append("emptied"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="gpu"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return clock


@pytest.mark.parametrize(("waits", "seconds"), [(True, 0.35), (False, 0.25)])
def test_waits_for_a_core_count_unless_they_are_left_out(clock, monkeypatch, waits, seconds):
    waited = [7.0]
    monkeypatch.setattr(clocks, "seconds_waited", lambda: waited[0])

    def step():
        clock.pass_("work and wait", 0.35)
        waited[0] += 0.1

    assert interleaved_seconds({"step": step}, "cpu", 2, waits=waits)["step"] == pytest.approx([seconds] * 2)


def test_a_wait_while_the_clock_is_read_is_seen_and_the_clock_read_again(clock, monkeypatch):
    waits = iter([5.0, 6.0, 6.0, 6.0])
    monkeypatch.setattr(clocks, "seconds_waited", lambda: next(waits))
    assert seconds_on_a_core() == clock.now - 6


def test_who_shares_a_core_waits_for_it():
    """As the scheduler of Linux tells each thread; there is nothing to read elsewhere."""
    if not Path("/proc/self/schedstat").exists():
        assert seconds_waited() == 0
        return
    cores, before = os.sched_getaffinity(0), seconds_waited()
    os.sched_setaffinity(0, {min(cores)})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        ends = time.perf_counter() + 0.5
        while time.perf_counter() < ends:
            pass
        waited = seconds_waited() - before
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(seconds_waited).result() < waited
    finally:
        os.sched_setaffinity(0, cores)
        busy.kill()
        busy.wait()
    assert waited > 0.05


def test_a_sleep_counts_and_the_clock_never_goes_back():
    times = [seconds_on_a_core() for _ in range(200)]
    assert times == sorted(times)
    time.sleep(0.02)
    assert seconds_on_a_core() - times[-1] >= 0.015


def test_seconds_on_a_gpu(gpu):
    """Events tell milliseconds; nothing waits within a block."""
    seconds = interleaved_seconds({"step": lambda: gpu.pass_("step", 0.001)}, "cuda", rounds=2)
    assert seconds["step"] == pytest.approx([0.001] * 2)
    assert gpu.took[-11:] == [*[*["step"] * 4, "waited"] * 2, "emptied"]


def test_a_gpu_warms_up_however_slow_a_step_is(gpu):
    """Its first steps are those before a capture, and the capture itself."""
    interleaved_seconds({"step": lambda: gpu.pass_("step", 9.0)}, "cuda", rounds=1, at_most_seconds=20)
    assert gpu.took.count("step") == 5 + 1


def test_phases_on_a_gpu(gpu):
    clock = PhaseClock("cuda")
    for seconds in (0.001, 0.003):
        clock.mark("solve")
        gpu.pass_("solve", seconds)
        clock.mark("update")
        gpu.pass_("update", 0.5)
        clock.mark(None)
    clock.mark("solve")
    assert gpu.took.count("waited") == 0
    assert clock.drain() == {"solve": pytest.approx([0.001, 0.003]), "update": pytest.approx([0.5, 0.5])}
    assert gpu.took.count("waited") == 1
    gpu.pass_("solve", 0.25)
    clock.mark(None)
    assert clock.drain() == {"solve": pytest.approx([0.25])}


def test_a_stopwatch_adds_up(clock):
    stopwatch = Stopwatch("cpu", seconds=10.0)
    for seconds in (1.0, 2.0):
        with stopwatch:
            clock.pass_("work", seconds)
        clock.pass_("pause", 5.0)
    assert stopwatch.seconds == pytest.approx(13.0)


def test_a_stopwatch_waits_for_the_gpu_at_both_ends(gpu):
    with Stopwatch("cuda"):
        gpu.pass_("work", 1.0)
    assert gpu.took == ["waited", "work", "waited"]


def test_blocks_of_a_given_length(clock):
    interleaved_seconds({"step": lambda: clock.pass_("step", 0.001)}, "cpu", rounds=1, block_seconds=0.5)
    assert len(clock.took) == 5 + 500


class Timed(TapeOptimizer):
    """Takes .2 ms in one phase and .5 in the next, so that a block has six steps."""

    def __init__(self, params, clock):
        super().__init__(params, {"lr": 1.0})
        self.clock = clock

    def step(self, tape):
        for phase, seconds in (("curvature", 0.0002), ("solve", 0.0005)):
            self.on_phase(phase)
            self.clock.pass_(phase, seconds)


def test_seconds_by_phase_are_those_of_one_step(clock, task):
    step = task.step(choose("sgd"), seed=0)
    step.optimizer = Timed(step.network.parameters(), clock)
    seconds = interleaved_phases({"timed": step}, "cpu", rounds=2)["timed"]
    assert seconds["curvature"] == pytest.approx([0.0002] * 2)
    assert seconds["solve"] == pytest.approx([0.0005] * 2)
    assert clock.took[-6 * 2 :] == ["curvature", "solve"] * 6


def test_seconds_by_phase(task):
    """As many samples as rounds, of the phases that an optimizer has."""
    seconds = interleaved_phases({spec: task.step(choose(spec), seed=0) for spec in ("sgd", "ea_cg")}, "cpu", rounds=4)
    assert set(seconds["sgd"]) == {"forward_backward", "update"}
    assert set(seconds["ea_cg"]) == set(PHASES)
    samples = [values for phases in seconds.values() for values in phases.values()]
    assert all(len(values) == 4 and min(values) > 0 for values in samples)


def test_a_phase_that_a_round_lacks_took_no_time(clock, task):
    step = task.step(choose("sgd"), seed=0)
    step.optimizer = Timed(step.network.parameters(), clock)
    marks = iter([True] * 7)  # those of the warm-up and of the first round, whose block has one step
    whole = step.optimizer.step

    def now_and_then(tape):
        if next(marks, False):
            whole(tape)
        clock.pass_("else", 0.01)

    step.optimizer.step = now_and_then
    seconds = interleaved_phases({"timed": step}, "cpu", rounds=3)["timed"]
    assert seconds["solve"][-1] == 0


def test_no_more_rounds_than_there_is_time_for(task):
    seconds = interleaved_phases({"sgd": task.step(choose("sgd"), seed=0)}, "cpu", rounds=1000, at_most_seconds=0.0)
    assert len(seconds["sgd"]["update"]) == 3


def test_bytes_by_phase(known):
    peaks = phase_bytes(known)
    assert set(peaks) == set(PHASES)
    assert peaks["solve"] - peaks["curvature"] == 8000
    assert peaks["curvature"] - peaks["update"] == 3000


class TwoSolves(TapeOptimizer):
    """Solves twice in a step, the second time with less."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})

    def step(self, tape):
        for numbers in (5000, 10):
            self.on_phase("curvature")
            self.on_phase("solve")
            made = torch.empty(numbers)
            del made


def test_a_phase_that_comes_twice_has_the_larger_bytes(known):
    known.optimizer = TwoSolves(known.network.parameters())
    peaks = phase_bytes(known)
    assert peaks["solve"] - peaks["curvature"] == 20000
