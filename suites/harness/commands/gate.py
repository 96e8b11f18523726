"""``kronbench gate``: compare times, memory and convergence with the baseline in the repository."""

import math
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from optimizers.core import CROSS_ENTROPY, FCNN
from suites.harness.commands.options import bad_input_is_one_line
from suites.harness.gate.baseline import Baseline, file_of_environment, kind, read_baselines
from suites.harness.gate.cases import cases
from suites.harness.gate.check import Finding, check, in_a_fresh_process, measure_baseline, select, updated
from suites.harness.show.table import Column, Content, Table, plain
from suites.harness.training.catalog import choose, refuse_repeated
from suites.harness.training.experiment import resolve_device

FOLDER = Path("results/gate")
REGRESSION, NO_BASELINE, ANOTHER_ENVIRONMENT = 1, 2, 3


def gate(
    update: Annotated[
        bool, typer.Option("--update", help="Measure and write the baseline, or with --only those cases of it.")
    ] = False,
    baseline: Annotated[
        Path, typer.Option(help="The baseline's file, or a folder with one for each environment.")
    ] = FOLDER,
    only: Annotated[
        list[str] | None, typer.Option(help="Repeatable: the cases to hold, as in 'solve/*' or '*/ea_cg'.")
    ] = None,
    optimizer: Annotated[
        list[str] | None, typer.Option(help="Repeatable: hold these instead, as in ./mine.py or heavyball.SOAP.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
) -> None:
    """Compare times, memory and convergence with the baseline in the repository.

    Exit codes: 0 all held, 1 a regression, 2 nothing measured or no baseline, 3 the baseline is of another environment.
    """
    patterns, specs = only or [], optimizer or []
    with bad_input_is_one_line():
        device = resolve_device(device)
        if specs:
            patterns = _of_optimizers(specs, patterns, device)
        if update:
            _update(baseline, patterns, device, specs)
            return
        known = read_baselines(baseline)
        path = _comparable(known, device)
        if path is None:
            _offer(baseline, known, device, specs)
            return
        values = {name: known[path].values[name] for name in select(known[path].values, patterns)}
        if not values:
            raise ValueError(f"nothing measured: {path} has no case {' or '.join(patterns)}".rstrip())
        present = select(cases(device, specs), patterns)
        findings = check(replace(known[path], values=values), present, in_a_fresh_process(device, specs))
    _print(findings, baseline, device, specs)
    if any(finding.regressed for finding in findings):
        raise typer.Exit(REGRESSION)


def _comparable(known: dict[Path, Baseline], device: str) -> Path | None:
    return next((path for path, kept in known.items() if not kept.differences(device)), None)


def _of_optimizers(specs: Sequence[str], patterns: Sequence[str], device: str) -> list[str]:
    """The cases of these optimizers that match the patterns.

    Raises:
        ValueError: one line, if an optimizer cannot be built or is given twice.
    """
    choices = [choose(spec) for spec in specs]
    refuse_repeated(choices)
    for choice in choices:
        choice.build(FCNN((1, 1)), CROSS_ENTROPY)
    found = select(cases(device, specs), patterns)
    if not found:
        raise ValueError(f"nothing to measure: {', '.join(specs)} have no case {' or '.join(patterns)}")
    return found


def _update(baseline: Path, patterns: Sequence[str], device: str, specs: Sequence[str]) -> None:
    """Write a whole baseline, or replace the cases that match the patterns."""
    present = select(cases(device, specs), patterns)
    if not patterns or (specs and not read_baselines(baseline)):
        path, kept, replaced = file_of_environment(baseline, device), None, []
    else:
        known = read_baselines(baseline)
        path = _comparable(known, device)
        if path is None:
            raise ValueError(f"{baseline} has no baseline of this environment to update; leave --only out to write one")
        kept = known[path]
        replaced = select({**kept.values, **dict.fromkeys(present)}, patterns)
        if not replaced:
            raise ValueError(f"nothing to update: there is no case {' or '.join(patterns)}")
    _require_writable(path)
    packages = {name: version for spec in specs for name, version in choose(spec).entry.packages.items()}
    measured = measure_baseline(present, device, in_a_fresh_process(device, specs), packages)
    (measured if kept is None else updated(kept, measured, replaced)).write(path)
    typer.echo(f"{len(present)} cases are now in {path}; commit it with the code that it was measured on")


def _require_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before minutes of measuring."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"baseline {path} cannot be written: {error.strerror}; give another --baseline") from None


def _offer(baseline: Path, known: dict[Path, Baseline], device: str, specs: Sequence[str]) -> None:
    """In a new environment: measure a baseline if the user at the terminal says yes."""
    for path, kept in known.items():
        typer.echo(f"not comparable with {path}: {'; '.join(kept.differences(device))}", err=True)
    path = file_of_environment(baseline, device)
    typer.echo(f"no baseline of this environment at {baseline}", err=True)
    if (
        sys.stdin.isatty()
        and not path.exists()
        and typer.confirm(f"Measure one now, for {path}? It takes about ten minutes.")
    ):
        _update(path, (), device, specs)
        return
    command = _command("--update", *_where(baseline, device, specs))
    typer.echo(f"{command} measures one: run it on the commit that others shall be held against", err=True)
    raise typer.Exit(ANOTHER_ENVIRONMENT if known else NO_BASELINE)


def _print(findings: list[Finding], baseline: Path, device: str, specs: Sequence[str]) -> None:
    """Print the cases that regressed, or how close each kind came to its bound, and what to do next."""
    where = _where(baseline, device, specs)
    new = [finding.name for finding in findings if finding.was is None]
    regressed = [finding for finding in findings if finding.regressed]
    typer.echo(plain(_regressed(regressed) if regressed else _held(findings)))
    if new:
        take_in = _command("--update", *_only(new), *where)
        typer.echo(f"not in the baseline, so not held: {', '.join(new)}; take them in with {take_in}", err=True)
    if regressed:
        only = _only([finding.name for finding in regressed])
        typer.echo(
            f"to be sure of a time, let the machine rest and repeat: {_command(*only, *where)}\n"
            f"if the change is meant, take the new numbers in: {_command('--update', *only, *where)}",
            err=True,
        )


def _regressed(findings: list[Finding]) -> Table:
    numbers = {"was": "was", "now": "is", "growth": "is / was"}
    columns = [Column("name", "regressed"), *(Column(key, title, ".6g") for key, title in numbers.items())]
    rows = [
        {"name": one.name, **{key: _cell(getattr(one, key)) for key in numbers}, "bound": one.bound} for one in findings
    ]
    return Table([*columns, Column("bound", "bound")], rows)


def _cell(value: float | None) -> Content:
    """``gone`` for a case that no longer exists, and a text for a number that is not finite."""
    return "gone" if value is None else value if math.isfinite(value) else str(value)


def _held(findings: list[Finding]) -> Table:
    held: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.was is not None:
            held.setdefault(kind(finding.name), []).append(finding)
    columns = [Column("held", "held"), Column("cases", "cases"), Column("worst", "worst is / was", ".6g")]
    rows = [
        {"held": name, "cases": len(group), "worst": _cell(max(one.growth for one in group)), "bound": group[0].bound}
        for name, group in held.items()
    ]
    return Table([*columns, Column("bound", "bound")], rows)


def _command(*arguments: str) -> str:
    return shlex.join(["kronbench", "gate", *arguments])


def _only(names: Sequence[str]) -> list[str]:
    return [argument for name in names for argument in ("--only", name)]


def _where(baseline: Path, device: str, specs: Sequence[str]) -> list[str]:
    """The options of this call that are not the defaults."""
    given = {"--baseline": (str(baseline), str(FOLDER)), "--device": (device, "cpu")}
    changed = [part for option, (value, usual) in given.items() if value != usual for part in (option, value)]
    return [*(part for spec in specs for part in ("--optimizer", spec)), *changed]
