"""The sections of the page: what each shows, its sources, and the command that makes it again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suites.harness.analysis.costs import milliseconds_by_width, phase_seconds
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.metrics import METRICS
from suites.harness.analysis.profiles import SCORED, scoreboard
from suites.harness.records.conventions import PHASES
from suites.harness.records.record import Record
from suites.harness.show import comparison, figures, measurements
from suites.harness.show.captions import caption, problem
from suites.harness.show.collect import Results
from suites.harness.show.figures import Figure, Styles
from suites.harness.show.table import Table, slug


@dataclass(frozen=True)
class Section:
    """A part of the page. Without figures and tables it says what makes them.

    files: its sources. command: makes it again. axes: the x axes that readers can choose.
    runs: listed one by one. pictures: the stem of files that show the same. folded: figures are opened one by one.
    """

    name: str
    title: str
    text: str = ""
    command: str = ""
    files: Sequence[Path] = ()
    axes: bool = False
    methods: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    runs: Sequence[Record] = ()
    pictures: str = ""
    folded: bool = False


def all_sections(results: Results, styles: Styles) -> Iterable[Section]:
    """All sections in order, without empty figures and tables."""
    for section in _sections(results, styles):
        drawn = [figure for figure in section.figures if figure.traces]
        yield replace(section, figures=drawn, tables=[table for table in section.tables if table.rows])


def _sections(results: Results, styles: Styles) -> Iterable[Section]:
    names = [experiment.name for experiment in results.experiments]
    yield from (_experiment(experiment, styles, _short(experiment.name, names)) for experiment in results.experiments)
    yield _together([experiment.by_method for experiment in results.experiments], styles)
    yield _tuning(results)
    yield _step_times(results, styles)
    yield _growth(results)
    yield _memory(results)
    yield _health(results.experiments, styles)
    yield _history(results, styles)
    yield _papers(results, styles)
    text = "Hardware, versions and commits of all that is shown here."
    yield Section("measured", "How it was measured", text, tables=[measurements.measured(results)])


def _experiment(experiment: Experiment, styles: Styles, short: str) -> Section:
    name, drawn = slug(experiment.name), experiment.by_method
    machines = dict.fromkeys(record.environment.processor for record in experiment.records)
    return Section(
        name,
        f"{short}: {problem(experiment.records)}; {', '.join(machines)}",
        caption(experiment.records, experiment.target),
        experiment.command,
        [experiment.folder],
        axes=True,
        methods=list(drawn.methods),
        figures=[
            figures.convergence(drawn, styles, METRICS["train_loss"], log=True),
            figures.convergence(drawn, styles, METRICS["test_accuracy"], log=False),
        ],
        tables=[
            comparison.with_tuning(experiment),
            comparison.middle_means([experiment], f"{name}-means", "Interquartile means"),
            comparison.pairs([experiment], f"{name}-pairs", "Probability of improvement"),
        ],
        runs=experiment.records,
        pictures=name,
    )


def _together(experiments: Sequence[Experiment], styles: Styles) -> Section:
    costs = [found for one in experiments if (found := one.costs("gradients"))]
    boards = [scoreboard(experiments, cost) for cost in SCORED]
    return Section(
        "together",
        "All problems together",
        "A profile shows the share of problems that a method solved within a factor of the cheapest method, by its "
        "median cost. It is drawn over problems that all shown methods ran on.",
        "kronbench compare",
        [experiment.folder for experiment in experiments],
        figures=[
            figures.performance_profile({m: score.profile for m, score in board.scores.items()}, styles, len(costs))
            for board in boards
        ],
        tables=[
            *(comparison.scores(board) for board in boards),
            comparison.middle_means(experiments, "together-means", "Interquartile means over all problems"),
            comparison.pairs(experiments, "together-pairs", "Probability of improvement over shared problems"),
        ],
        methods=list(dict.fromkeys(method for found in costs for method in found)),
    )


def _tuning(results: Results) -> Section:
    text = "What finding the settings cost. The tables above add it where the very setting that was found was run."
    paths = [tuning.path for tuning in results.tunings if tuning.path.is_relative_to(results.folder)]
    return Section("tuning", "Tuning", text, "kronbench tune", paths, tables=[comparison.tunings(results.tunings)])


def _step_times(results: Results, styles: Styles) -> Section:
    phases = [(one, found) for one in results.experiments if any((found := phase_seconds(one.methods)).values())]
    measured = [*results.step_times, *results.benches]
    return Section(
        "step-times",
        "What a step takes",
        "Seconds of a step, split into forward and backward, curvature, solve and update, and against the batch.",
        "kronbench gpu --output DIR",
        [*(one.folder for one, _ in phases), *(m.path for m in measured)],
        figures=[
            *(measurements.phase_bars(found, PHASES, f"{one.name}: a step by phase") for one, found in phases),
            *(figure for m in results.step_times for figure in measurements.step_time_figures(m, styles)),
        ],
        tables=[
            *(measurements.step_times(m, slug(f"{m.path.parent.name}-step-times")) for m in results.step_times),
            *(measurements.bench(m, slug(f"{m.path.parent.name}-{m.path.stem}")) for m in results.benches),
        ],
    )


def _growth(results: Results) -> Section:
    sources = milliseconds_by_width({m.path.stem: m.rows for m in results.benches}, results.history)
    return Section(
        "growth",
        "Growth with the width",
        "Curvature and solver alone, on a layer of n inputs and n outputs, batch 100.",
        "tox run -e bench",
        [m.path for m in results.benches],
        figures=[
            figures.lines(series, where, "width", "milliseconds", Styles(series), type="log")
            for where, series in sources.items()
        ],
        tables=[measurements.growth(sources)],
    )


def _memory(results: Results) -> Section:
    return Section(
        "memory",
        "Memory",
        "Peak bytes of a step in a fresh process, predicted by formula and measured under an enforced budget.",
        "kronbench memory",
        [m.path for m in results.memory],
        figures=[measurements.memory_bars(m.rows, f"Memory, {m.path.parent.name}") for m in results.memory],
        tables=[measurements.memory(m, slug(f"{m.path.parent.name}-memory")) for m in results.memory],
    )


def _health(experiments: Sequence[Experiment], styles: Styles) -> Section:
    drawn = [(one, figures.solver_health(one.by_method.methods, one.name, styles)) for one in experiments]
    drawn = [(one, found) for one, found in drawn if found]
    shown = [replace(figure, title=f"{one.name}: {figure.title}") for one, found in drawn for figure in found]
    return Section(
        "health",
        "Solver health",
        "CG iterations and residuals over training, the eigenvalues that Pos-Eig turns round where there are any, "
        "and how KFI splits its damping.",
        "kronbench compare",
        [one.folder for one, _ in drawn],
        axes=True,
        methods=list(dict.fromkeys(t["method"] for figure in shown for t in figure.traces if "method" in t)),
        figures=shown,
        tables=[comparison.solver_failures([one for one, _ in drawn])],
    )


def _history(results: Results, styles: Styles) -> Section:
    drawn = [
        figures.lines(
            {line: [(one.commit, one.value) for one in measured] for line, measured in benchmark.series.items()},
            benchmark.title,
            "commit",
            benchmark.unit or "value",
            styles,
            log=False,
            type="category",
            categoryarray=benchmark.commits,
        )
        for benchmark in results.history
    ]
    text = "Benchmarks over commits, from the oldest to the newest; lower is better."
    return Section("history", "History", text, "asv run", [results.folder / "asv"], figures=drawn, folded=True)


def _papers(results: Results, styles: Styles) -> Section:
    return Section(
        "papers",
        "The paper's tables",
        "Computed again, beside the paper's values. Each title says what stands in for the paper's data.",
        "kronbench reproduce table2 --scale cpu --data-root FOLDER",
        [found.path.parent for found in results.papers],
        figures=[figure for found in results.papers if (figure := measurements.errors_by_layer(found, styles))],
        tables=[measurements.paper(found) for found in results.papers],
    )


def _short(name: str, names: Sequence[str]) -> str:
    """The shortest end of a path that no other path shares; the whole path if others end with it."""
    parts = name.split("/")
    ends = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
    return next((end for end in ends if sum(f"/{other}".endswith(f"/{end}") for other in names) == 1), name)
