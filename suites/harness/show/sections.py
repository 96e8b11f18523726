"""The folded parts of the page: their contents, their sources, and the command that makes them again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from suites.harness.analysis.costs import milliseconds_by_width
from suites.harness.analysis.experiment import Experiment, Results
from suites.harness.analysis.metrics import METRICS
from suites.harness.analysis.profiles import Scoreboard
from suites.harness.records.record import Record
from suites.harness.show import comparison, figures, measurements
from suites.harness.show.captions import caption, sentences
from suites.harness.show.figures import Figure
from suites.harness.show.looks import Look, looks, marked
from suites.harness.show.overview import Overview, Row
from suites.harness.show.table import Table, slug


@dataclass(frozen=True)
class Section:
    """A part of the page.

    aside: beside its title. lines: its first sentences. files: its sources. command: makes it again.
    axes: the x axes that readers can choose. methods: the looks of the lines that can be hidden, by label.
    runs: listed one by one. pictures: whether there are picture files of the same.
    """

    name: str
    title: str
    aside: str = ""
    lines: Sequence[str] = ()
    text: str = ""
    command: str = ""
    files: Sequence[Path] = ()
    axes: bool = False
    methods: Mapping[str, Look] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    runs: Sequence[Record] = ()
    pictures: bool = False

    @property
    def shown(self) -> bool:
        """Whether anything was recorded."""
        return bool(self.figures or self.tables)


def all_sections(results: Results, first: Overview) -> Iterable[Section]:
    """All sections in order, without empty figures and tables."""
    for section in _sections(results, first):
        drawn = [figure for figure in section.figures if figure.traces]
        yield replace(section, figures=drawn, tables=[table for table in section.tables if table.rows])


def _sections(results: Results, first: Overview) -> Iterable[Section]:
    yield from map(_experiment, first.rows)
    yield _together(results.experiments, list(first.boards.values()))
    yield _tuning(results)
    yield _step_times(results)
    yield _growth(results)
    yield _memory(results)
    yield _history(results)
    yield _papers(results)
    text = "Hardware, versions and commits of all that is shown here."
    yield Section("measured", "How it was measured", text=text, tables=[measurements.measured(results)])


def _experiment(row: Row) -> Section:
    experiment = row.experiment
    name, of_spec = slug(experiment.name), looks(experiment.methods)
    return Section(
        name,
        row.problem,
        f"{row.facts}, {row.goal}",
        sentences(row.answer),
        caption(experiment.records, experiment.target),
        experiment.command,
        experiment.files,
        axes=True,
        methods={label: of_spec[spec] for spec, label in marked(experiment.methods).items()},
        figures=[
            figures.convergence(experiment, METRICS["train_loss"]),
            figures.convergence(experiment, row.answer.judged),
            measurements.phases(experiment),
            *figures.solver_health(experiment.methods, row.problem),
        ],
        tables=[
            comparison.with_tuning(experiment),
            comparison.pairs([experiment], f"{name}-pairs", "Probability of improvement"),
            comparison.solver_failures(experiment.methods, f"{name}-solves"),
        ],
        runs=experiment.records,
        pictures=True,
    )


def _together(experiments: Sequence[Experiment], boards: Sequence[Scoreboard]) -> Section:
    return Section(
        "together",
        "All problems together",
        text="A profile shows the share of problems that a method solved within a factor of the cheapest method, by "
        "its median cost. It is drawn over problems that all shown methods ran on.",
        command="kronbench compare",
        figures=[
            figures.performance_profile({m: s.profile for m, s in board.scores.items()}, METRICS[board.cost].short)
            for board in boards
        ],
        tables=[
            *(comparison.scores(board) for board in boards),
            comparison.pairs(
                [one.by_method for one in experiments],
                "together-pairs",
                "Probability of improvement over shared problems",
            ),
        ],
    )


def _tuning(results: Results) -> Section:
    text = "What finding the settings cost. The tables above add it where the very setting that was found was run."
    paths = [tuning.path for tuning in results.tunings if tuning.path.is_relative_to(results.folder)]
    tables = [comparison.tunings(results.tunings)]
    return Section("tuning", "Tuning", text=text, command="kronbench tune", files=paths, tables=tables)


def _step_times(results: Results) -> Section:
    measured = [*results.step_times, *results.benches]
    return Section(
        "step-times",
        "Step times",
        text="Milliseconds of a step, split into forward and backward, curvature, solve and update, and against the "
        "batch.",
        command="kronbench gpu --output DIR",
        files=[m.path for m in measured],
        figures=[figure for m in results.step_times for figure in measurements.step_time_figures(m)],
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
        text="Curvature and solver alone, on a layer of n inputs and n outputs, batch 100.",
        command="tox run -e bench",
        files=[m.path for m in results.benches],
        figures=[
            figures.lines(series, where, "width", "milliseconds", type="log") for where, series in sources.items()
        ],
        tables=[measurements.growth(sources)],
    )


def _memory(results: Results) -> Section:
    return Section(
        "memory",
        "Memory",
        text="Peak bytes of a step in a fresh process, predicted by formula and measured under an enforced budget.",
        command="kronbench memory",
        files=[m.path for m in results.memory],
        figures=[measurements.memory_bars(m.rows, f"Memory, {m.path.parent.name}") for m in results.memory],
        tables=[measurements.memory(m, slug(f"{m.path.parent.name}-memory")) for m in results.memory],
    )


def _history(results: Results) -> Section:
    drawn = [
        figures.lines(
            {line: [(one.commit, one.value) for one in measured] for line, measured in benchmark.series.items()},
            benchmark.title,
            "commit",
            benchmark.unit or "value",
            log=False,
            type="category",
            categoryarray=benchmark.commits,
        )
        for benchmark in results.history
    ]
    text = "Benchmarks over commits, from the oldest to the newest; lower is better."
    paths = sorted((results.folder / "asv").rglob("*.json"))
    return Section("history", "History", text=text, command="asv run", files=paths, figures=drawn)


def _papers(results: Results) -> Section:
    return Section(
        "papers",
        "The paper's tables",
        text="Computed again, beside the paper's values. Each title says what stands in for the paper's data.",
        command="kronbench reproduce table2 --scale cpu --data-root FOLDER",
        files=[path for found in results.papers for path in sorted(found.path.parent.iterdir()) if path.is_file()],
        figures=[figure for found in results.papers if (figure := measurements.errors_by_layer(found))],
        tables=[measurements.paper(found) for found in results.papers],
    )
