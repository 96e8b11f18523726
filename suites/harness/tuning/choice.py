"""Which setting a method runs at: the one that was found for the task, where the user writes none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from suites.harness.problems.tuned import Tuned
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Task


def resolve(spec: str, task: Task, found: Sequence[Tuned]) -> Choice:
    """The optimizer that a specification names, at the setting that was found for this task.

    A bare method, such as ``sgd`` or ``ea_cg[gamma=0]``, takes all options of its setting: ``sgd[lr=1]``. Whoever
    writes one of the searched options gets what is written, and the defaults. It is ``tuned`` if that is the very
    setting that was found.

    Args:
        found: settings of a file; those of other tasks do not count.

    Raises:
        ValueError: as :func:`suites.harness.training.catalog.choose`; also if a setting that was found does not fit.
    """
    written = choose(spec)
    for one in found:
        if one.task != task_of(task) or one.optimizer != written.entry.name:
            continue
        tuned = with_options(written, one.options)
        if written.options == one.variant or _all_options(written) == _all_options(tuned):
            return replace(tuned, tuning="tuned", edge=one.search.edge)
    return written


def task_of(task: Task) -> tuple[object, ...]:
    """What a setting is found for, see :attr:`suites.harness.problems.tuned.Tuned.task`."""
    settings = task.settings
    return task.problem.name, settings.criterion, settings.network, settings.activation, settings.batch_size


def with_options(choice: Choice, options: Mapping[str, object]) -> Choice:
    """The same optimizer with these options; 1.0 is written as 1."""
    stem = choice.given.partition("[")[0]
    written = (f"{name}={f'{value:.12g}' if isinstance(value, float) else value}" for name, value in options.items())
    return choose(f"{stem}[{','.join(written)}]")


def _all_options(choice: Choice) -> dict[str, object]:
    return {**choice.entry.options, **choice.options}
