"""Which setting a method runs at: the one that was found for the task, where the user writes none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from suites.harness.data.tuned import Tuned, task_of, written
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
    choice = choose(spec)
    for one in found:
        if one.task != task_of(task.problem.name, task.settings) or one.optimizer != choice.entry.name:
            continue
        tuned = with_options(choice, one.options)
        if choice.options == one.variant or _all_options(choice) == _all_options(tuned):
            return replace(tuned, tuning="tuned", edge=one.search.edge, trials=one.search.trials)
    return choice


def at_any_batch(spec: str, task: Task, found: Sequence[Tuned]) -> tuple[Task, Choice]:
    """The setting that was found for a method, and the task with the batch size that it was found for.

    Raises:
        ValueError: if there is none, or one of each of several batch sizes.
    """
    bare = choose(spec)
    sought = task_of(task.problem.name, task.settings)[:-1]
    fitting = [
        one for one in found if (one.optimizer, one.variant, one.task[:-1]) == (bare.entry.name, bare.options, sought)
    ]
    if len(fitting) != 1:
        wanted = f"{task.problem.name} with {task.settings.criterion}"
        raise ValueError(f"tuned settings: expected one of {bare.spec} for {wanted}, found {len(fitting)}")
    own = replace(task, settings=replace(task.settings, batch_size=fitting[0].batch_size))
    return own, resolve(spec, own, fitting)


def with_options(choice: Choice, options: Mapping[str, object]) -> Choice:
    """The same optimizer with these options."""
    return choose(written(choice.given.partition("[")[0], options))


def _all_options(choice: Choice) -> dict[str, object]:
    return {**choice.entry.options, **choice.options}
