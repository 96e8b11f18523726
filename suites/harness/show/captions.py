"""Sentences: the answer, the machine, the meaning of numbers, and the headline of the README."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from suites.harness.analysis.answer import Answer, Gain, Lead, answer
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.metrics import Metric, judged_by
from suites.harness.analysis.statistics import Interval, attained_level
from suites.harness.records.facts import Environment
from suites.harness.records.groups import Setup
from suites.harness.records.record import Record
from suites.harness.show.comparison import short_table
from suites.harness.show.looks import labels
from suites.harness.show.table import markdown

PREFERRED = "published/digits-cross-entropy"  # the main job
_WAYS = {"tuned": "tuned", "untuned": "untuned, at the defaults", "given": "at given settings"}
_MARKS = ("<!-- headline -->", "<!-- /headline -->")


def caption(records: Sequence[Record], target: float) -> str:
    """One paragraph about a comparison: the problem, the machine, and the meaning of the numbers."""
    return (
        f"{measured(records, target)} Step time: ratio to SGD with momentum, interleaved in one process. "
        "Optimizer memory: the most that it holds within a step beside parameters, activations and their gradients."
    )


def measured(records: Sequence[Record], target: float) -> str:
    """The problem and the machine, and the meaning of medians, target and gradient-equivalents."""
    experiment, setup = records[0].experiment, Setup.of(records[0])
    seeds = len({record.experiment.seed for record in records})
    batches = sorted({record.experiment.batch_size for record in records})
    level = f" with intervals that cover {100 * attained_level(seeds):.3g} %" if seeds > 1 else ""
    kind = "synthetic data" if experiment.synthetic else "real data"
    return (
        f"{experiment.dataset} ({kind}: {experiment.train_images} train, {experiment.test_images} test), "
        f"{experiment.criterion}, {setup.layers}, network {'-'.join(map(str, experiment.network))}, "
        f"batch {' or '.join(map(str, batches))}, {setup.length}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}; {machine(records[0].environment)}. "
        f"{shared(max(record.header.at_a_time for record in records))}"
        f"Medians over seeds{level}; a run that never reached {_goal(judged_by(records), target)} counts as infinite. "
        f"Gradient-equivalents: operations, counted, over those of one forward and "
        "backward pass with weight gradients."
    )


def _goal(metric: Metric, target: float) -> str:
    """``test accuracy 0.95``, or with a unit ``test loss 60 (nats an image)``."""
    return f"{metric.quantity} {target:g}{metric.unit and f' ({metric.unit})'}"


def shared(at_a_time: int) -> str:
    """Why there are no seconds; empty if each run had the machine to itself."""
    return "" if at_a_time == 1 else f"{at_a_time} runs at a time shared the machine: their seconds are left out. "


def machine(environment: Environment) -> str:
    """The machine and the versions, in a few words."""
    threads = f"{environment.threads} thread{'' if environment.threads == 1 else 's'}"
    name = environment.gpu.name if environment.gpu else f"{environment.cpu}, {threads}"
    commit = f", commit {environment.commit}" if environment.commit else ""
    return f"{name}, torch {environment.torch}{commit}"


def problem(records: Sequence[Record]) -> str:
    """Data set, criterion and batch."""
    facts = records[0].experiment
    synthetic = ", synthetic images" if facts.synthetic else ""
    return f"{facts.dataset}, {facts.criterion}, batch {facts.batch_size}{synthetic}"


def sentences(found: Answer) -> list[str]:
    """The answer in full: a line for each cost, and one for how the settings were found."""
    names = labels(found.methods)
    tuned = ". ".join(_tuned(found, names)) + "."
    if not found.leads:
        return [f"In the median nobody reached {_goal(found.judged, found.target)}.", tuned]
    return [*(". ".join(_lead(lead, names)) + "." for lead in found.leads.values()), tuned]


def verdict(found: Answer) -> list[str]:
    """The answer for a terminal: at most five lines of 80 columns."""
    names, facts = labels(found.methods), found.experiment
    goal = f"{found.judged.quantity} {found.target:g}"
    goal = f"best to {goal}" if found.leads else f"in the median nobody reached {goal}"
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    return [
        _fitting([f"{facts.dataset}, {facts.criterion}: {goal}, {seeds}"]),
        *(_fitting(_short_leads(lead, names)) for lead in found.leads.values()),
        *(f"  {line}".rstrip() for line in [shared(found.at_a_time)] if line),
        _fitting(_short_tuned(found, names)),
    ]


def _lead(lead: Lead, names: Mapping[str, str]) -> Iterator[str]:
    """``gradient-equivalents to 0.95: KFAC 91 [79, 112]``, its equals, ``1.6x [1.4, 1.8] fewer than SGD``."""
    yield f"{lead.metric.label}: {names[lead.best]} {_best(lead)}"
    if not lead.enough:
        yield "Too few seeds to tell anyone apart"
    elif lead.level:
        yield f"Level with it: {_listed(lead.level, names)}"
    gains = {gain.over: gain for gain in (lead.over_next, lead.over_sgd) if gain and gain.over in lead.costs}
    for gain in gains.values():
        if gain.over not in (*lead.level, *lead.never):
            sure = gain.sure and f" (probability {gain.sure.value:.2f} [{gain.sure.low:.2f}, {gain.sure.high:.2f}])"
            gained = _gained(lead, gain, names)
            yield f"{gained[0].upper()}{gained[1:]}{sure or ''}"
    if lead.never:
        yield f"Never there: {_listed(lead.never, names)}"


def _short_leads(lead: Lead, names: Mapping[str, str]) -> Iterator[str]:
    """The line of a cost, from the fullest form to the shortest."""
    median, _, _ = lead.costs[lead.best]
    bests = [f"  {lead.metric.short}: {names[lead.best]} {text}" for text in (_best(lead), lead.metric.text(median))]
    gains, levels = [""], [""]
    if lead.over_next:
        gains = [f"; {_gained(lead, lead.over_next, names, ends)}" for ends in (True, False)]
    if not lead.enough:
        levels = ["; too few seeds to tell"]
    elif lead.level:
        levels = [f"; level: {_listed(lead.level, names)}", f"; {len(lead.level)} level (=)"]
    yield from (best + gain + level for level in levels for gain in gains for best in bests)
    yield bests[-1] + levels[-1]


def _gained(lead: Lead, gain: Gain, names: Mapping[str, str], ends: bool = True) -> str:
    """``1.6x [1.4, 1.8] fewer than SGD``."""
    than = f"{lead.metric.smaller} than {names[gain.over]}"
    if gain.factor is None or math.isinf(gain.factor.median):
        return f"{than}, which got there in at most half of its runs"
    middle, low, high = (f"{value:.3g}" for value in gain.factor)
    bounds = f" [{low}, {high}]" if ends and low != high else ""
    return f"{middle}x{bounds} {than}"


def _best(lead: Lead) -> str:
    """The median cost of the best with its interval."""
    median, low, high = ("inf" if math.isinf(cost) else lead.metric.text(cost) for cost in lead.costs[lead.best])
    return median if low == high else f"{median} [{low}, {high}]"


def _tuned(found: Answer, names: Mapping[str, str]) -> list[str]:
    """How the settings were found: ``Tuned in 32 trials each: SGD; KFAC``."""
    ways = _ways(found)
    if len(ways) == 1 and len(found.methods) > 1:
        return [f"All {way}" for way in ways]
    return [f"{way[0].upper()}{way[1:]}: {_listed(methods, names)}" for way, methods in ways.items()]


def _short_tuned(found: Answer, names: Mapping[str, str]) -> Iterator[str]:
    """The line on tuning, from the fullest form to the shortest."""
    yield f"  {'. '.join(_tuned(found, names))}."
    yield f"  {'; '.join(f'{len(methods)} {way}' for way, methods in _ways(found).items())}."


def _ways(found: Answer) -> dict[str, list[str]]:
    """The methods by how their settings were found."""
    ways: dict[str, list[str]] = {}
    for method in sorted(found.methods.values(), key=lambda method: list(_WAYS).index(method.tuning)):
        trials = f" in {method.trials} trials each" if method.trials else ""
        ways.setdefault(f"{_WAYS[method.tuning]}{trials}", []).append(method.spec)
    return ways


def _listed(specs: Iterable[str], names: Mapping[str, str]) -> str:
    """``SGD; EA-CG, PCH-1``: names have commas."""
    return "; ".join(names[spec] for spec in specs)


def _fitting(forms: Iterable[str]) -> str:
    """The first form that fits 80 columns; if none does, the last one, cut off."""
    form = ""
    for form in forms:
        if len(form) <= 80:
            return form
    return f"{form[:79]}…"


def readme_block(experiment: Experiment, picture: str) -> str:
    """The README's text between its marks: picture, answer, table and caption. ``picture`` has no suffix."""
    found = answer(experiment.methods, experiment.target)
    shown = f'<img src="{picture}.svg" alt="{" and ".join(drawn(found))}, by method">'
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{picture}-dark.svg">'
    marks = "`*` is the best, `=` cannot be told from it. " if found.leads else ""
    return "\n\n".join(
        [
            *([f"<picture>{dark}{shown}</picture>"] if found.leads else []),
            "\n".join(f"- {line}" for line in sentences(found)),
            markdown(short_table(found, experiment.methods)),
            f"{marks}{measured(experiment.records, experiment.target)} "
            f"[All columns]({Path(picture).with_name('table.md').as_posix()}).",
        ]
    )


def drawn(found: Answer) -> dict[str, dict[str, Interval]]:
    """The medians with their intervals, by cost and method, for the picture of an answer."""
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
