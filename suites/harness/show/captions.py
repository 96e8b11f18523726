"""What is said in words: what was measured on which machine, what numbers mean, the headline of the README."""

import re
from collections.abc import Sequence

from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.headline import headline
from suites.harness.analysis.statistics import attained_level
from suites.harness.records.facts import Environment
from suites.harness.records.record import Record
from suites.harness.show.comparison import comparison_table
from suites.harness.show.table import markdown

PREFERRED = "published/digits-cross-entropy"  # the main job
_MARKS = ("<!-- headline -->", "<!-- /headline -->")


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


def main_experiment(experiments: Sequence[Experiment]) -> Experiment | None:
    """The experiment of the headline: the main job where it is published, or the one with the most runs."""
    by_name = {experiment.name: experiment for experiment in experiments}
    most = max(experiments, key=lambda experiment: len(experiment.records), default=None)
    return by_name.get(PREFERRED, most)


def readme_block(experiment: Experiment, picture: str) -> str:
    """What stands between the marks of the README: picture, sentence, table and caption; ``picture`` lacks a suffix."""
    found = headline(experiment.methods, experiment.target)
    seeds = max(len({record.experiment.seed for record in group}) for group in experiment.methods.values())
    table = comparison_table(experiment.records, experiment.step_seconds, experiment.target)
    shown = f'<img src="{picture}.svg" alt="{" and ".join(found.costs)}, by method">'
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{picture}-dark.svg">'
    return "\n\n".join(
        [
            f"<picture>{dark}{shown}</picture>",
            f"{found.sentence} Brackets: of medians and ratios {100 * attained_level(seeds):.3g} %, of probabilities "
            "95 %, each pair by itself.",
            markdown(table),
            caption(experiment.records, experiment.target),
        ]
    )


def with_headline(readme: str, block: str) -> str:
    """The text with its headline replaced.

    Raises:
        ValueError: if the marks are not there, once each and in order.
    """
    start, end = _MARKS
    if readme.count(start) != 1 or readme.count(end) != 1 or readme.index(start) > readme.index(end):
        raise ValueError(f"the text must hold {start} and {end}, once each and in this order")
    pattern = f"(?s){re.escape(start)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{start}\n{block}\n{end}", readme)
