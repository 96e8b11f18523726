"""``kronbench diff``: two result folders or commits, what got better, what worse, and what cannot be told apart."""

from collections import Counter
from typing import Annotated

import typer
from tabulate import tabulate

from suites.harness.analysis.diff import Row, read_folder
from suites.harness.analysis.diff import diff as compare_records
from suites.harness.commands.options import bad_input_is_one_line
from suites.harness.records.revisions import folder_of

_LEGEND = """\
Medians; changes are paired by seed, with 95 % intervals, or the range where fewer than 6 seeds are shared: too few to
tell. Of twenty numbers that did not change, one is told apart by chance. A run that failed, diverged or missed the
target is infinite; its accuracy is 0 where it failed or diverged."""


def diff(
    before: Annotated[str, typer.Argument(help="Folder with runs/*.jsonl, in it or below; or COMMIT, COMMIT:FOLDER.")],
    after: Annotated[str, typer.Argument(help="The other; changes are those from the first to this one.")],
    show_all: Annotated[bool, typer.Option("--all", help="Show also what is the same.")] = False,
) -> None:
    """Say what got better or worse from one result folder or commit to another, and what cannot be told."""
    with bad_input_is_one_line(), folder_of(before) as first, folder_of(after) as second:
        (old, unread), (new, also_unread) = read_folder(first), read_folder(second)
        found = compare_records(old, new)
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
    typer.echo(_LEGEND)
    for line in (*unread, *also_unread):
        typer.echo(f"left out: {line}", err=True)
    if unread or also_unread:
        raise typer.Exit(2)


def _cells(row: Row) -> tuple[str, ...]:
    metric = row.metric
    medians = ("-" if side is None or metric is None else metric.text(side.median) for side in (row.before, row.after))
    return row.optimizer, metric.label if metric else "all", *medians, row.outcome, row.verdict
