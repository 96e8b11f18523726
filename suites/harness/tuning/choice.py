"""The setting at which a method runs: the tuned one of the task, unless the user writes one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from suites.harness.data.tuned import Tuned, task_of, written
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Task


def resolve(spec: str, task: Task, found: Sequence[Tuned]) -> Choice:
    """The optimizer of a specification, at the tuned setting of this task.

    A method without searched options, such as ``sgd`` or ``ea_cg[gamma=0]``, takes its tuned setting: ``sgd[lr=1]``. If
    the specification has one of the searched options, it stays as it is, with defaults for the rest; it still counts as
    ``tuned`` if it equals the tuned setting.

    Args:
        found: settings of a file; those of other tasks do not count.

    Raises:
        ValueError: as :func:`suites.harness.training.catalog.choose`; also if the tuned setting does not fit.
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
    """The tuned setting of a method, and the task with the batch size of this setting.

    Raises:
        ValueError: one line, if there is no such setting, or one for each of several batch sizes.
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
