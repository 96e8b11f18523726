"""The headline as it stands in the README: picture, sentence, table and caption."""

import re
from collections.abc import Sequence

from suites.harness.analysis.headline import headline
from suites.harness.analysis.statistics import attained_level
from suites.harness.show.captions import caption
from suites.harness.show.comparison import comparison_table
from suites.harness.show.experiment import Experiment
from suites.harness.show.table import markdown

PREFERRED = "published/digits-cross-entropy"  # the main job
_MARKS = ("<!-- headline -->", "<!-- /headline -->")


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
