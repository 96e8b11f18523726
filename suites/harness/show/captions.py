"""What is said in words: the answer, what was measured on which machine, what numbers mean, the block of the README."""

import math
import re
from collections.abc import Sequence

from suites.harness.analysis.answer import Answer, Gain, Lead, answer
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.statistics import Interval, attained_level
from suites.harness.names import shown_name
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


def sentences(found: Answer) -> list[str]:
    """The answer: a line for each cost, and one for how the settings were found."""
    facts, goal = found.experiment, f"test accuracy {found.target:g}"
    if not found.leads:
        return [f"On {facts.dataset} with {facts.criterion} no method reached {goal} in the median over its seeds."]
    return [*map(_lead, found.leads.values()), _tuned(found)]


def _lead(lead: Lead) -> str:
    """``gradient-equivalents to 0.95: kfac 91 [79, 112], level with ea_cg; 1.6x [1.4, 1.8] fewer than sgd``."""
    text = f"{lead.metric.label}: {shown_name(lead.best)} {_interval(lead, lead.best)}"
    if not lead.enough:
        text += "; these seeds are too few to tell anyone apart"
    elif lead.level:
        text += f"; {listed(lead.level)} cannot be told apart from it"
    gains = {gain.over: gain for gain in (lead.over_next, lead.over_sgd) if gain and gain.over not in lead.level}
    text += "".join(f"; {_gained(lead, gain)}" for gain in gains.values())
    return f"{text}; {listed(lead.never)} never got there" if lead.never else text


def _gained(lead: Lead, gain: Gain) -> str:
    sure = f" ({_probability(gain)})" if gain.sure else ""
    if gain.factor is None or math.isinf(gain.factor.median):
        return f"{lead.metric.smaller} than {shown_name(gain.over)}{sure}"
    middle, low, high = (f"{value:.3g}" for value in gain.factor)
    bounds = "" if low == high else f" [{low}, {high}]"
    return f"{middle}x{bounds} {lead.metric.smaller} than {shown_name(gain.over)}{sure}"


def _interval(lead: Lead, method: str) -> str:
    median, low, high = map(lead.metric.text, lead.costs[method])
    return median if low == high else f"{median} [{low}, {high}]"


def _probability(gain: Gain) -> str:
    return f"probability {gain.sure.value:.2f} [{gain.sure.low:.2f}, {gain.sure.high:.2f}]" if gain.sure else ""


def _tuned(found: Answer) -> str:
    kinds = {
        kind: [m.spec for m in found.methods.values() if m.tuning == kind] for kind in ("tuned", "untuned", "given")
    }
    return "; ".join(f"{kind}: {listed(names)}" for kind, names in kinds.items() if names)


def listed(names: Sequence[str]) -> str:
    """``SGD, KFAC and Adam``, from specifications."""
    *first, last = map(shown_name, names)
    return f"{', '.join(first)} and {last}" if first else last


def readme_block(experiment: Experiment, picture: str) -> str:
    """What stands between the marks of the README: picture, answer, table and caption; ``picture`` lacks a suffix."""
    found = answer(experiment.methods, experiment.target)
    table = comparison_table(experiment.records, experiment.step_seconds, experiment.target)
    shown = f'<img src="{picture}.svg" alt="{" and ".join(drawn(found))}, by method">'
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{picture}-dark.svg">'
    return "\n\n".join(
        [
            f"<picture>{dark}{shown}</picture>",
            "\n".join(f"- {line}" for line in sentences(found)),
            markdown(table),
            caption(experiment.records, experiment.target),
        ]
    )


def drawn(found: Answer) -> dict[str, dict[str, Interval]]:
    """What the picture of an answer shows: the medians with their intervals, by cost and method."""
    return {lead.metric.label: lead.costs for key, lead in found.leads.items() if key != "peak_state"}


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
