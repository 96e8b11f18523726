"""``kronbench gate``: hold times, memory and convergence against the baseline that the repository keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from suites.harness.commands.errors import bad_input_is_one_line
from suites.harness.gate import check as harness
from suites.harness.gate.cases import cases
from suites.harness.show.tables import plain
from suites.harness.training.experiment import resolve_device

REGRESSION, ANOTHER_ENVIRONMENT = 1, 3


def gate(
    update: Annotated[bool, typer.Option("--update", help="Measure and write a new baseline instead.")] = False,
    baseline: Annotated[
        Path, typer.Option(help="The baseline's file, or a folder with one for each environment.")
    ] = Path("results/gate"),
    only: Annotated[
        list[str] | None, typer.Option(help="Repeatable: the cases to hold, as in 'solve/*' or '*/ea_cg'.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
) -> None:
    """Hold times, memory and convergence against the baseline that the repository keeps.

    Exit codes: 0 all held, 1 a regression, 2 nothing measured or no baseline, 3 the baseline is of another environment.
    """
    patterns = only or []
    with bad_input_is_one_line():
        device = resolve_device(device)
        present, measure = harness.select(cases(device), patterns), harness.in_a_fresh_process(device)
        if update:
            if patterns:
                raise ValueError("--update measures every case: leave --only out")
            if baseline.suffix != ".json":
                baseline /= harness.file_of_environment(device)
            harness.update(baseline, present, device, measure)
            typer.echo(f"{len(present)} cases are now in {baseline}")
            return
        baselines = {path: harness.read_baseline(path) for path in harness.baselines_of(baseline)}
        unlike = {path: harness.differences(kept, device) for path, kept in baselines.items()}
        comparable = [path for path, differences in unlike.items() if not differences]
        if not comparable:
            for path, differences in unlike.items():
                typer.echo(f"not comparable with {path}: {'; '.join(differences)}", err=True)
            raise typer.Exit(ANOTHER_ENVIRONMENT)
        baseline = comparable[0]
        kept = baselines[baseline]
        values = {name: kept.values[name] for name in harness.select(kept.values, patterns)}
        if not values:
            raise ValueError(f"nothing measured: {baseline} has no case {' or '.join(patterns)}".rstrip())
        findings = harness.check(replace(kept, values=values), present, measure)
    _print(findings)
    if any(finding.regressed for finding in findings):
        raise typer.Exit(REGRESSION)


def _print(findings: list[harness.Finding]) -> None:
    """What regressed, case by case, or else how close each kind came to its bound; and what is not held at all."""
    new = [finding.name for finding in findings if finding.was is None]
    if new:
        typer.echo(
            f"not in the baseline, so not held: {', '.join(new)}; kronbench gate --update takes them in", err=True
        )
    rows = [
        {
            "regressed": finding.name,
            "was": _shown(finding.was),
            "is": _shown(finding.now),
            "is / was": _shown(finding.growth),
            "bound": finding.bound,
        }
        for finding in findings
        if finding.regressed
    ]
    if not rows:
        held: dict[str, list[harness.Finding]] = {}
        for finding in findings:
            if finding.was is not None:
                held.setdefault(harness.kind(finding.name), []).append(finding)
        for kind, group in held.items():
            worst = max(finding.growth for finding in group)
            rows.append({"held": kind, "cases": len(group), "worst is / was": _shown(worst), "bound": group[0].bound})
    typer.echo(plain(pd.DataFrame(rows)))


def _shown(value: float | None) -> str:
    return "gone" if value is None else f"{value:.6g}"
