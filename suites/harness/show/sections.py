"""The sections of the page: what each shows, where that comes from, and what makes it again."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from suites.harness.analysis.profiles import profiles
from suites.harness.show import comparison as tables
from suites.harness.show import cost, measurements
from suites.harness.show.captions import caption
from suites.harness.show.collect import Results
from suites.harness.show.experiment import Experiment
from suites.harness.show.figures import Figure, Styles, convergence, lines, performance_profile
from suites.harness.show.headline import cost_values
from suites.harness.show.health import solver_health
from suites.harness.show.section import Section
from suites.harness.show.table import slug


def all_sections(results: Results, styles: Styles) -> Iterable[Section]:
    """In the order of the page."""
    names = [experiment.name for experiment in results.experiments]
    yield from (_experiment(experiment, styles, _short(experiment.name, names)) for experiment in results.experiments)
    yield _together(results.experiments, styles)
    yield _tuning(results)
    yield from cost.sections(results, styles)
    yield _health(results.experiments, styles)
    yield _history(results, styles)
    yield _papers(results, styles)
    yield Section(
        "measured",
        "How it was measured",
        "Hardware, versions and commits of all that is shown here.",
        tables=[measurements.measured(results)],
    )


def _experiment(experiment: Experiment, styles: Styles, short: str) -> Section:
    name, drawn = slug(experiment.name), experiment.by_method
    machines = dict.fromkeys(record.environment.processor for record in experiment.records)
    return Section(
        name,
        f"{short}: {problem(experiment)}; {', '.join(machines)}",
        caption(experiment.records, experiment.target),
        experiment.command,
        [experiment.folder],
        axes=True,
        methods=list(drawn.methods),
        figures=[
            convergence(drawn, styles, "train_loss", "train loss", log=True),
            convergence(drawn, styles, "test_accuracy", "test accuracy", log=False),
        ],
        tables=[
            tables.comparison(experiment),
            tables.middle_means([experiment], f"{name}-means", "Interquartile means"),
            tables.pairs([experiment], f"{name}-pairs", "Probability of improvement"),
        ],
        runs=experiment.records,
        pictures=name,
    )


def _together(experiments: Sequence[Experiment], styles: Styles) -> Section:
    """All problems at once."""
    experiments = [experiment.by_method for experiment in experiments]
    costs = [found for experiment in experiments if (found := cost_values(experiment, "gradients to"))]
    section = Section(
        "together",
        "All problems together",
        "Gradient-equivalents to the target of each problem. A problem is an experiment above. A profile shows the "
        "share of problems, of those that a method ran on, within a factor of the cheapest run of the same seed. Each "
        "method with the setting that it ran with there, tuned or not; settings are named where there were several.",
    )
    if not costs:
        return replace(section, text="No records that count operations.", command="kronbench compare")
    return replace(
        section,
        files=[experiment.folder for experiment in experiments],
        figures=[performance_profile(profiles(costs), styles, len(costs))],
        tables=[
            tables.middle_means(experiments, "together-means", "Interquartile means over all problems"),
            tables.pairs(experiments, "together-pairs", "Probability of improvement over shared problems"),
        ],
        methods=list(dict.fromkeys(method for found in costs for method in found)),
    )


def _tuning(results: Results) -> Section:
    if not results.tunings:
        return Section("tuning", "Tuning", "No tuning recorded.", "kronbench tune --optimizer kfac --optimizer ea_cg")
    text = "What finding the settings cost; the tables above add it where the very setting that was found was run."
    paths = [tuning.path for tuning in results.tunings]
    return Section("tuning", "Tuning", text, "kronbench tune", paths, tables=[tables.tunings(results.tunings)])


def _health(experiments: Sequence[Experiment], styles: Styles) -> Section:
    watched = [(experiment, solver_health(experiment.by_method, styles)) for experiment in experiments]
    watched = [(experiment, figures) for experiment, figures in watched if figures]
    if not watched:
        return Section("health", "Solver health", "No records of second-order solvers.", "kronbench compare")
    return Section(
        "health",
        "Solver health",
        "CG iterations and residuals over training, the eigenvalues that Pos-Eig turns round where there are any, "
        "and how KFI splits its damping.",
        files=[experiment.folder for experiment, _ in watched],
        axes=True,
        methods=list(dict.fromkeys(m for _, figures in watched for f in figures for m in _methods(f))),
        figures=[
            replace(figure, title=f"{experiment.name}: {figure.title}")
            for experiment, figures in watched
            for figure in figures
        ],
        tables=[tables.solver_failures([experiment for experiment, _ in watched])],
    )


def _history(results: Results, styles: Styles) -> Section:
    if not results.history:
        return Section("history", "History", "No history recorded.", "asv run")
    figures = [
        lines(
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
    return Section("history", "History", text, "asv run", [results.folder / "asv"], figures=figures, folded=True)


def _papers(results: Results, styles: Styles) -> Section:
    if not results.papers:
        return Section("papers", "The paper's tables", "None computed.", "kronbench reproduce table2 --scale cpu")
    figures = [figure for found in results.papers if (figure := cost.errors_by_layer(found, styles))]
    return Section(
        "papers",
        "The paper's tables",
        "Computed again, beside the paper's values; each title says what stands in for the paper's data.",
        "kronbench reproduce table2 --scale cpu --data-root FOLDER",
        [found.path.parent for found in results.papers],
        figures=figures,
        tables=[measurements.paper(found) for found in results.papers],
    )


def problem(experiment: Experiment) -> str:
    """Data set, criterion and batch."""
    facts = experiment.records[0].experiment
    return (
        f"{facts.dataset}, {facts.criterion}, batch {facts.batch_size}{', synthetic images' if facts.synthetic else ''}"
    )


def _short(name: str, names: Sequence[str]) -> str:
    """The shortest end of a path that no other path has; the whole path where others end with it."""
    parts = name.split("/")
    ends = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
    return next((end for end in ends if sum(f"/{other}".endswith(f"/{end}") for other in names) == 1), name)


def _methods(figure: Figure) -> list[str]:
    return [trace["method"] for trace in figure.traces if "method" in trace]
