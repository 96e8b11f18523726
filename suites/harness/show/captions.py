"""What stands below a table in words: data, network, machine, and what the numbers mean."""

from collections.abc import Sequence

from suites.harness.analysis.statistics import attained_level
from suites.harness.records.facts import Environment
from suites.harness.records.record import Record


def caption(records: Sequence[Record], target: float) -> str:
    """What a comparison shows and the machine it was measured on, in one paragraph."""
    return (
        f"{measured(records, target)} Step time: ratio to SGD with momentum, interleaved in one process. "
        "Peak state: the most that the optimizer holds within a step beside parameters, activations and deltas."
    )


def measured(records: Sequence[Record], target: float) -> str:
    """The machine that records were measured on, and what medians, a target and gradient-equivalents mean."""
    experiment = records[0].experiment
    seeds = len({record.experiment.seed for record in records})
    batches = sorted({record.experiment.batch_size for record in records})
    level = f" with intervals that cover {100 * attained_level(seeds):.3g} %" if seeds > 1 else ""
    kind = "synthetic data" if experiment.synthetic else "real data"
    return (
        f"{experiment.dataset} ({kind}: {experiment.train_images} train, {experiment.test_images} test), "
        f"{experiment.criterion}, {experiment.activation}, network {'-'.join(map(str, experiment.network))}, "
        f"batch {' or '.join(map(str, batches))}, {experiment.epochs} epochs, "
        f"{seeds} seed{'s' if seeds > 1 else ''}; {machine(records[0].environment)}. {_shared(records)}"
        f"Medians over seeds{level}; a run that never reached test accuracy "
        f"{target:g} counts as infinite. Gradient-equivalents: operations, counted, over those of one forward and "
        "backward pass with weight gradients."
    )


def _shared(records: Sequence[Record]) -> str:
    most = max(record.header.at_a_time for record in records)
    return "" if most == 1 else f"{most} runs at a time shared the machine: their seconds are not for comparison. "


def machine(environment: Environment) -> str:
    """The machine and the versions, in a few words."""
    name = environment.gpu.name if environment.gpu else f"{environment.cpu}, {environment.threads} threads"
    commit = f", commit {environment.commit}" if environment.commit else ""
    return f"{name}, torch {environment.torch}{commit}"


def problem(records: Sequence[Record]) -> str:
    """Data set, criterion and batch."""
    facts = records[0].experiment
    synthetic = ", synthetic images" if facts.synthetic else ""
    return f"{facts.dataset}, {facts.criterion}, batch {facts.batch_size}{synthetic}"
