"""The search of ``kronbench tune``: settings of a method on held-out images, never the test set, and its cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from suites.harness.data.tuned import Search, Tuned
from suites.harness.records.facts import GOALS
from suites.harness.records.record import Record
from suites.harness.training.catalog import Choice
from suites.harness.training.experiment import Task
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.tuning import grid
from suites.harness.tuning.choice import with_options
from suites.harness.tuning.halving import halve, rungs
from suites.harness.tuning.score import RULE, Score, score
from suites.harness.tuning.space import EXTENSION, Options, Space, at, beyond, joined, space_of, trials

VALIDATION = 0.2  # of the training images
FIRST_SEED = 1000  # comparisons take 0, 1, ..., which are fresh then


@dataclass(frozen=True)
class Plan:
    """The plan of a search, the same for every method.

    of_paper: try every setting of the paper's grid, instead of a quasi-random search with successive halving.
    trials: of the quasi-random search. space: overrides that of the optimizers.
    batch_sizes: one, or those of the grid. seeds: runs of each setting. epochs: of the last rung.
    """

    of_paper: bool = False
    trials: int = 27
    space: Space = field(default_factory=dict)
    batch_sizes: tuple[int, ...] = (100,)
    seeds: int = 3
    epochs: int = 40

    def run_epochs(self, count: int) -> int:
        """The epochs of all runs of ``count`` trials."""
        found = [(count, self.epochs)] if self.of_paper else rungs(count, self.epochs)
        return self.seeds * sum(settings * epochs for settings, epochs in found)


@dataclass(frozen=True, eq=False)
class Setting:
    """The searched options and the batch size. ``choice`` has all options."""

    choice: Choice
    options: Options
    batch_size: int


def settings_of(task: Task, choice: Choice, plan: Plan) -> list[Setting]:
    """The first settings to try of a method.

    Raises:
        ValueError: one line, if there is nothing to search, or the optimizer refuses the ends of its space.
    """
    if plan.of_paper:
        tried = grid.settings(choice)
        return [_setting(choice, options, batch) for options in tried for batch in plan.batch_sizes]
    space = space_of(choice, plan.space)
    for share in (0.001, 0.999):  # the ends themselves may be excluded
        task.check(_setting(choice, at(space, choice.entry.options, [share] * len(space), digits=6), 1).choice)
    return _draw(task, choice, space, plan.trials, plan)


def tune(
    task: Task,
    choice: Choice,
    plan: Plan,
    output: Path,
    data_root: Path | None = None,
    workers: Workers | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
    on_more: Callable[[int], None] = lambda epochs: None,
) -> Tuned:
    """Find the best setting of a method by the rule; every run leaves a record in ``output / "runs"``.

    If the best lies at the edge of a span, the space is extended once at this side: by a third of the span, with a
    third of the trials.

    Args:
        task: with a share of validation images.
        on_more: called with the number of epochs that an extension adds.

    Raises:
        ValueError: if no setting finished.
    """
    runs = _Runs(task, plan, output, data_root, workers or Workers(), on_done)
    tried = settings_of(task, choice, plan)
    if plan.of_paper:
        best = runs.ranked(tried, plan.epochs)[0]
        values = grid.varied(choice)
        spans = {name: ", ".join(f"{value:g}" for value in own) for name, own in values.items()}
        edge = [name for name, own in values.items() if len(own) > 1 and best.options[name] in (min(own), max(own))]
        return runs.result(best, spans, len(tried), [], edge)
    space = dict(space_of(choice, plan.space))
    best = halve(tried, plan.epochs, runs.ranked)[0]
    more = {name: found for name, span in space.items() if (found := beyond(span, best.options[name]))}
    bests, count = [best], len(tried)
    for name, span in more.items():
        drawn = _draw(task, choice, {**space, name: span}, math.ceil(plan.trials * EXTENSION), plan)
        if drawn:
            on_more(plan.run_epochs(len(drawn)))
            bests.append(halve(drawn, plan.epochs, runs.ranked)[0])
            count += len(drawn)
    best = min(bests, key=runs.scores.__getitem__)
    wider = {name: joined(span, more[name]) if name in more else span for name, span in space.items()}
    edge = [name for name, span in wider.items() if beyond(span, best.options[name])]
    return runs.result(best, {name: str(span) for name, span in wider.items()}, count, list(more), edge)


@dataclass
class _Runs:
    """The runs of a search. ``scores``: of the longest runs of each setting."""

    task: Task
    plan: Plan
    output: Path
    data_root: Path | None
    workers: Workers
    on_done: Callable[[Record], None]
    records: list[Record] = field(default_factory=list)
    rungs: list[tuple[int, int]] = field(default_factory=list)
    scores: dict[Setting, Score] = field(default_factory=dict)

    def ranked(self, settings: Sequence[Setting], epochs: int) -> list[Setting]:
        """Train settings, and return them best first."""
        jobs = [
            Job(
                replace(self.task.settings, batch_size=one.batch_size),
                self.data_root,
                one.choice.given,
                seed,
                epochs,
                self.output / "runs",
            )
            for seed in range(FIRST_SEED, FIRST_SEED + self.plan.seeds)
            for one in settings
        ]
        records = run_jobs(jobs, self.workers, self.on_done)
        self.records += records
        self.rungs.append((len(settings), epochs))
        for place, one in enumerate(settings):
            self.scores[one] = score(records[place :: len(settings)], self.task.problem.targets)
        return sorted(settings, key=self.scores.__getitem__)

    def result(
        self, best: Setting, space: dict[str, str], count: int, extended: Sequence[str], edge: Sequence[str]
    ) -> Tuned:
        """The best setting, and the cost of all runs."""
        unfinished = [record for record in self.records if not record.completed]
        reached = self.scores[best]
        if reached.unfinished:
            raise ValueError(f"no setting finished; {unfinished[-1].path.stem}: {unfinished[-1].reason}")
        last = [record.points[-1] for record in self.records if record.points]
        environment, settings = self.records[0].environment, self.task.settings
        goal = GOALS[self.task.problem.metric]
        targets = goal.hardest_first(self.task.problem.targets)
        return Tuned(
            optimizer=best.choice.entry.name,
            options=best.choice.options,
            problem=self.task.problem.name,
            criterion=settings.criterion,
            network=settings.network,
            activation=settings.activation,
            initialization=settings.initialization,
            batch_size=best.batch_size,
            schedule=settings.schedule,
            epochs={f"{target:g}": needed for target, needed in zip(targets, reached.epochs, strict=True)},
            accuracy=1 - reached.missed if goal.larger_is_better else None,
            loss=reached.loss if math.isfinite(reached.loss) else None,
            search=Search(
                space=space,
                trials=count,
                extended=tuple(extended),
                edge=tuple(edge),
                rungs=tuple(self.rungs),
                seeds=self.plan.seeds,
                runs=len(self.records),
                unfinished=len(unfinished),
                epochs=sum(point.epoch for point in last),
                seconds=sum(r.points[-1].training_seconds / r.header.at_a_time for r in self.records if r.points),
                gradient_equivalents=sum(point.gradient_equivalents or 0.0 for point in last),
                rule=RULE,
                machine=environment.processor,
                kronbench=environment.kronbench or "",
                commit=environment.commit,
            ),
        )


def _setting(choice: Choice, options: Options, batch_size: int) -> Setting:
    return Setting(with_options(choice, {**choice.options, **options}), options, batch_size)


def _draw(task: Task, choice: Choice, space: Space, count: int, plan: Plan) -> list[Setting]:
    """Trials in a space; the optimizer takes all of them."""

    def fits(options: Options) -> bool:
        try:
            task.check(_setting(choice, options, 1).choice)
        except ValueError:
            return False
        return True

    drawn = trials(space, choice.entry.options, count, fits)
    return [_setting(choice, options, batch) for options in drawn for batch in plan.batch_sizes]
