"""``kronbench diff``: what got better or worse from one folder of results, or commit, to another."""

import math
import re
from collections import Counter
from typing import Annotated

import typer
from tabulate import tabulate

from suites.harness.analysis.diff import Pair, Row, read_folder
from suites.harness.analysis.diff import diff as compare_records
from suites.harness.analysis.statistics import LEVEL
from suites.harness.analysis.verdicts import SMALLEST_EFFECT
from suites.harness.commands.options import bad_input_is_one_line
from suites.harness.records.revisions import folder_of

_LEGEND = """\
Medians; changes are paired by seed, with 95 % intervals, or the range where fewer than 6 seeds are shared: too few to
tell. A run that failed, diverged or missed the target is infinite; its accuracy is 0 where it failed or diverged.
Seconds of two runs are not compared. Step time / SGD is, from run to run: the interval of its change is as wide as the
sittings of a run differ, and changes of {smallest:g} % and less are none. If nothing had changed, of the {judged} that
are judged here some {by_chance:.1f} would be told apart by chance."""
_PAIR = re.compile(r"([^=\[]+(?:\[[^\]]*\])?)=(.+)")


def diff(
    before: Annotated[str, typer.Argument(help="Folder with runs/*.jsonl, in it or below; or COMMIT, COMMIT:FOLDER.")],
    after: Annotated[str, typer.Argument(help="The other; changes are those from the first to this one.")],
    pair: Annotated[
        list[str] | None, typer.Option(help="Repeatable: compare two optimizers, as in 'ea_cg=ea_cg[damping=0.05]'.")
    ] = None,
    smallest_effect: Annotated[
        float, typer.Option(help="Times must change by more than this share.")
    ] = SMALLEST_EFFECT,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything got worse.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show also what is the same.")] = False,
) -> None:
    """Say what got better or worse from one result folder or commit to another, and what cannot be told."""
    with bad_input_is_one_line(), folder_of(before) as first, folder_of(after) as second:
        if not 0 <= smallest_effect < math.inf:
            raise ValueError(f"smallest effect must be a share of at least 0, such as 0.05, got {smallest_effect}")
        sides = read_folder(first), read_folder(second)
        found = compare_records(*sides, [_pair(text) for text in pair or ()], smallest_effect)
    for difference in found.differences:
        typer.echo(f"\n{difference.setup}")
        for note in difference.notes:
            typer.echo(f"  {note}")
        for optimizer in difference.one_sided:
            typer.echo(f"  on one side only: {optimizer}")
        rows = [_cells(row) for row in difference.rows if show_all or row.outcome != "same"]
        if rows:
            headers = ("optimizer", "metric", "before", "after", "", "verdict")
            typer.echo("\n" + tabulate(rows, headers, tablefmt="simple", disable_numparse=True))
    for side, names in (("before", found.only_before), ("after", found.only_after)):
        for name in names:
            typer.echo(f"\non one side only ({side}): {name}")
    counts = Counter(row.outcome for difference in found.differences for row in difference.rows)
    typer.echo(f"\n{', '.join(f'{count} {outcome}' for outcome, count in counts.most_common()) or 'nothing in common'}")
    judged = counts["better"] + counts["worse"] + counts["inconclusive"]
    typer.echo(_LEGEND.format(smallest=100 * smallest_effect, judged=judged, by_chance=judged * (1 - LEVEL)))
    unread = [line for side in sides for line in side.unread]
    for line in unread:
        typer.echo(f"left out: {line}", err=True)
    if unread:
        raise typer.Exit(2)
    if exit_code and counts["worse"]:
        raise typer.Exit(1)


def _pair(text: str) -> Pair:
    match = _PAIR.fullmatch(text)
    if match is None:
        raise ValueError(f"pair {text!r}: expected two optimizers, as in ea_cg=ea_cg[damping=0.05]")
    return match[1], match[2]


def _cells(row: Row) -> tuple[str, ...]:
    metric = row.metric
    medians = ("-" if side is None or metric is None else metric.text(side.median) for side in (row.before, row.after))
    return row.optimizer, metric.label if metric else "all", *medians, row.outcome, row.verdict
