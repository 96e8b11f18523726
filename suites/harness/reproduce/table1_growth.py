"""The growth of each method's cost with one size, while all others stay the same.

symbol     name           meaning
n          width          of every hidden layer, in the network 64-n-...-n-10 of the digits
k - 1      depth          hidden layers
B          batch          images of a mini-batch
|CG|       iterations     of CG, always all of them: its tolerance is 0

Curvature and solve of a step are measured apart: seconds (many steps, methods in turn), counted operations (see
:mod:`suites.harness.measure.operations`), and the peak of bytes
(:func:`suites.harness.measure.live_bytes.phase_bytes`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from optimizers.core import SecondOrder
from suites.harness.measure.environment import describe
from suites.harness.measure.live_bytes import phase_bytes
from suites.harness.measure.operations import count, iterations_run
from suites.harness.measure.step import Step
from suites.harness.measure.timing import interleaved_phases
from suites.harness.records.facts import Header, Status
from suites.harness.records.journal import Journal, read_journal
from suites.harness.reproduce.request import Scale
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.identity import run_id
from suites.harness.training.resumable import Work, run_once
from suites.harness.training.turns import Turns, in_one_go

PHASES = ("curvature", "solve")
SPECS = {  # "factor" is the form of the paper
    "KFAC": "kfac[inverse=factor]",
    "KFRA": "kfra[inverse=factor]",
    "EA-CG": "ea_cg[tolerance=0.0,max_iter={iterations}]",
    "KFAC exact": "kfac[inverse=exact]",
    "KFAC rank_one": "kfac[inverse=rank_one]",
}
ONLY_CG = ("EA-CG",)  # methods with iterations
_ROUNDS = 200  # at most


@dataclass(frozen=True)
class Case:
    """The sizes of a measurement."""

    width: int = 32
    depth: int = 2
    batch: int = 16
    iterations: int = 10

    @property
    def network(self) -> tuple[int, ...]:
        return (64, *[self.width] * self.depth, 10)


@dataclass(frozen=True)
class Costs:
    """The cost of a method at one size, by phase: ``seconds`` of many steps, ``operations`` and ``bytes`` of one."""

    optimizer: str
    seconds: dict[str, list[float]]
    operations: dict[str, int]
    bytes: dict[str, int]


@dataclass(frozen=True)
class Sweep:
    """The field of a case that is varied, and its values."""

    over: str
    values: tuple[int, ...]
    base: Case

    @property
    def cases(self) -> list[Case]:
        return [replace(self.base, **{self.over: value}) for value in self.values]

    @property
    def methods(self) -> tuple[str, ...]:
        return ONLY_CG if self.over == "iterations" else tuple(SPECS)


@dataclass(frozen=True)
class GrowthScale(Scale):
    """The sweeps to measure. ``seconds``: the limit for each size, unless three rounds of all methods take longer."""

    seconds: float
    sweeps: tuple[Sweep, ...]

    def __iter__(self) -> Iterator[tuple[Sweep, Case]]:
        return ((sweep, case) for sweep in self.sweeps for case in sweep.cases)


GROWTH_SCALES = {
    scale.name: scale
    for scale in (
        GrowthScale(
            "smoke",
            0.05,
            (
                Sweep("width", (16, 24, 32, 48, 64), Case()),
                Sweep("depth", (2, 3, 4, 6, 8), Case()),
                Sweep("batch", (8, 12, 16, 24, 32), Case()),
                Sweep("iterations", (5, 10, 15, 20, 30), Case(width=64, batch=8)),
            ),
        ),
        GrowthScale(
            "cpu",
            6,
            (
                Sweep("width", (64, 128, 256, 384, 512, 768, 1024), Case(batch=100)),
                Sweep("depth", (2, 3, 4, 6, 8), Case(width=256, batch=100)),
                Sweep("batch", (32, 64, 128, 256, 512), Case(width=512)),
                Sweep("iterations", (10, 20, 40, 60, 80), Case(width=1024, batch=32)),
            ),
        ),
        GrowthScale(
            "paper",
            60,
            (
                Sweep("width", (256, 512, 1024, 1536, 2048, 3072, 4096), Case(batch=100)),
                Sweep("depth", (2, 3, 4, 6, 8), Case(width=1024, batch=100)),
                Sweep("batch", (64, 128, 256, 512, 1024), Case(width=1024)),
                Sweep("iterations", (10, 20, 40, 60, 80), Case(width=2048, batch=32)),
            ),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Measured(Case):
    """A measured case: the field that was varied, and the costs by method."""

    over: str
    figures: dict[str, Costs]


@dataclass(frozen=True)
class GrowthExperiment:
    """The header of a record of growth."""

    scale: GrowthScale
    table: str = "table1"


GrowthRecord: TypeAlias = Journal[GrowthExperiment, Measured]


def read_growth(path: Path) -> GrowthRecord:
    """Read a record of growth, see :func:`suites.harness.records.journal.read_journal`."""
    return read_journal(path, GrowthExperiment, Measured)


def measure_growth(
    scale: GrowthScale,
    device: str,
    path: Path,
    on_case: Callable[[int], None] = lambda done: None,
    resume: bool = True,
) -> GrowthRecord:
    """Measure every size of a scale into the record ``path``, a point for each, see
    :func:`suites.harness.training.resumable.run_once`."""
    header = Header(experiment=GrowthExperiment(scale=scale), environment=describe(device))
    header = replace(header, run=run_id(header, Path(__file__)))

    def work(under_way: Work) -> Turns[tuple[Status, None]]:
        for sweep, case in list(scale)[under_way.points :]:
            costs = measure(case, sweep.methods, device, scale.seconds)
            under_way.point(Measured(over=sweep.over, **vars(case), figures=costs))
            on_case(under_way.points)
            yield
        return "finished", None

    record = in_one_go(run_once)(path, header, device, read_growth, work, resume, needs_checkpoint=False)
    on_case(len(record.points))
    return record


def measure(case: Case, methods: tuple[str, ...], device: str, at_most_seconds: float) -> dict[str, Costs]:
    """The cost of each method at one size.

    Raises:
        RuntimeError: if CG stopped before its iterations were done.
    """
    task = Task.load(Settings(network=case.network, batch_size=case.batch, device=device))
    choices = {method: choose(SPECS[method].format(iterations=case.iterations)) for method in methods}
    steps = {method: task.step(choice, seed=0) for method, choice in choices.items()}
    seconds = interleaved_phases(steps, task.settings.device, _ROUNDS, at_most_seconds)
    costs = {}
    for method, choice in choices.items():
        operations, peaks = count_and_weigh(task.step(choice, seed=0), case)
        costs[method] = Costs(choice.spec, {phase: seconds[method][phase] for phase in PHASES}, operations, peaks)
    return costs


def count_and_weigh(step: Step, case: Case) -> tuple[dict[str, int], dict[str, int]]:
    """Operations and bytes of a step by phase.

    Raises:
        RuntimeError: if CG stopped before its iterations were done.
    """
    operations = count(step)
    assert isinstance(step.optimizer, SecondOrder)
    (solution,) = step.optimizer.solutions
    # the hidden layers have one width, so they are one block of products
    _, *blocks = iterations_run(solution, solution.iterations, case.iterations).tolist()
    if blocks and blocks[0] != case.iterations:
        raise RuntimeError(f"CG went through {blocks[0]} of {case.iterations} iterations")
    peaks = phase_bytes(step)
    return {phase: operations[phase] for phase in PHASES}, {phase: peaks[phase] for phase in PHASES}
