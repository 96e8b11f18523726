"""What the benchmarks share: optimizers, networks, and how one process measures for many.

asv reads this folder from the working tree and the packages from the commit under test. So names come from the working
tree, and what an old commit lacks raises NotImplementedError in ``setup``, which asv shows as n/a. asv starts a process
for every figure. Nothing here imports torch before it measures. The first process that needs a figure measures all
figures of its group, interleaved, and the others read them.
"""

import importlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

# as in asv.conf.json, for environments at hand: with more, a step waits for whichever core something else keeps busy
os.environ.setdefault("OMP_NUM_THREADS", "1")

WORKLOAD_VERSION = "1"  # raise it when a benchmark comes to measure something else: figures under two are not compared

_FOLDER = Path(__file__).resolve().parents[1] / "optimizers"
OPTIMIZERS = (
    *sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")),
    *shlex.split(os.environ.get("KRONBENCH_OPTIMIZERS", "")),  # anyone's: "/full/path/mine.py torch.optim.AdamW"
)
FORMS = tuple(f"kfac[inverse={form}]" for form in ("factor", "gram", "rank_one"))  # of KFI; kfac itself is "exact"
PHASES = ("forward_backward", "curvature", "solve", "update")
REFERENCE = "sgd"

# where old commits have what is now elsewhere, by its module of today, and what they call it
_FORMERLY = {
    "data.problem": ("problems.problem",),
    "measure.live_bytes": ("memory.live", "measure.phases", "phases"),
    "measure.timing": ("measure.phases", "timing", "phases"),
    "training.catalog": ("catalog",),
    "training.experiment": ("experiments",),
    "training.runner": ("runner",),
}
_RENAMED = {"Task": "Problem"}

Figures = dict[str, Any]
_Method = TypeVar("_Method", bound=Callable[..., Any])


def harness(module: str, name: str) -> Any:
    """A part of the installed harness, by its module and name of today or, in an old commit, by those of then.

    Raises:
        NotImplementedError: if the commit under test lacks it.
    """
    for place in (module, *_FORMERLY.get(module, ())):
        for known_as in (name, _RENAMED.get(name, name)):
            if (found := _part(place, known_as)) is not None:
                return found
    raise NotImplementedError(f"suites.harness.{module}.{name} is missing")


def _part(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"suites.harness.{module}"), name, None)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("suites."):
            raise  # the environment lacks a package: a failure, and not an old commit
        return None


def network(problem: str) -> tuple[int, ...]:
    """The sizes of a problem's own network; old commits have a table of them."""
    try:
        return harness("data.problem", "find")(problem).network
    except NotImplementedError:
        return harness("training.experiment", "NETWORKS")[problem]


def first_target(problem: str) -> float:
    """The target of a problem that counts; old commits have a table of them."""
    try:
        return harness("data.problem", "find")(problem).targets[0]
    except NotImplementedError:
        return harness("training.experiment", "TARGETS")[problem]


def task(problem: str = "digits", network: tuple[int, ...] = (), batch_size: int = 100) -> Any:
    """A :class:`suites.harness.training.experiment.Task`, on the GPU where there is one."""
    settings = harness("training.experiment", "Settings")(problem, network=network, batch_size=batch_size)
    return harness("training.experiment", "Task").load(settings)


def choices(specs: Sequence[str], task: Any) -> tuple[list[Any], Figures]:
    """Those of the optimizers that can take a step, and for each of the others why it cannot, as a figure."""
    usable, others = [], {}
    for spec in specs:
        try:
            choice = harness("training.catalog", "choose")(spec)
        except ValueError as error:
            others[spec] = {"missing": str(error)}
            continue
        try:
            task.step(choice, seed=0)()
            usable.append(replace(choice, spec=spec))  # figures go by the name that was asked for
        except Exception:
            others[spec] = {"failed": traceback.format_exc()}
    return usable, others


def step_seconds(task: Any, choices: Sequence[Any], at_most_seconds: float) -> dict[str, list[float]]:
    """Seconds of steps by optimizer, measured in turn."""
    return _in_turn("interleaved_seconds", "interleaved_step_seconds", task, choices, at_most_seconds)


def phase_seconds(task: Any, choices: Sequence[Any], at_most_seconds: float) -> dict[str, dict[str, list[float]]]:
    """Seconds of steps by optimizer and phase, measured in turn."""
    return _in_turn("interleaved_phases", "interleaved_phase_seconds", task, choices, at_most_seconds)


def _in_turn(name: str, formerly: str, task: Any, choices: Sequence[Any], at_most_seconds: float) -> Any:
    """Old commits build the steps themselves, from the problem and the choices."""
    try:
        return harness("measure.timing", formerly)(task, choices, at_most_seconds=at_most_seconds)
    except NotImplementedError:
        steps = {choice.spec: task.step(choice, seed=0) for choice in choices}
        return harness("measure.timing", name)(steps, task.settings.device, at_most_seconds=at_most_seconds)


class Shared:
    """Benchmarks that take their figures from one process. In each round asv gives all of them one folder to run in."""

    version = WORKLOAD_VERSION
    timeout = 1800  # seconds; the first of a group measures for all

    def setup_cache(self) -> None:
        """Empty: asv makes the folder because this method exists."""


def shared(group: str, keys: Sequence[str], measure: Callable[[], Figures]) -> Any:
    """The figure under ``keys`` of what ``measure`` returns. It is measured once in a round.

    If a benchmark comes back in the same folder, its next round has begun (``-a rounds=4`` in an environment at hand),
    and all is measured again. Otherwise the same samples would count twice.

    Raises:
        NotImplementedError: if there is no such figure.
        RuntimeError: if measuring it failed.
    """
    path, name = Path(f"{group}.json"), _request()[0]
    kept = json.loads(path.read_text()) if path.exists() else None
    if kept is None or name in kept["taken"]:
        kept = {"figures": _once(measure), "taken": []}
    kept["taken"].append(name)
    path.write_text(json.dumps(kept))
    figure = _whole(kept["figures"])
    for key in keys:
        if key not in figure:
            raise NotImplementedError(f"{group} has no {key}")
        figure = _whole(figure[key])
    return figure


def _whole(figure: Any) -> Any:
    if isinstance(figure, dict) and "failed" in figure:
        raise RuntimeError(figure["failed"])
    if isinstance(figure, dict) and "missing" in figure:
        raise NotImplementedError(figure["missing"])
    return figure


def _once(measure: Callable[[], Figures]) -> Figures:
    """What the function returns, or why it failed, so that it is not tried again."""
    try:
        return measure()
    except NotImplementedError as error:
        return {"missing": str(error)}
    except Exception:
        return {"failed": traceback.format_exc()}


def quick() -> bool:
    """Whether this is ``asv run --quick``."""
    return _request()[1].get("repeat") == 1


def _request() -> tuple[str, Figures]:
    """The name of the benchmark of this process, and the attributes given for it.

    asv hands neither to a benchmark. Both are read from the command line of its runner, ``run DIR NAME ATTRIBUTES
    ...``.
    """
    return (sys.argv[3], json.loads(sys.argv[4])) if sys.argv[1:2] == ["run"] else ("", {})


def measured_in(unit: str) -> Callable[[_Method], _Method]:
    """Set the unit of a benchmark."""

    def mark(method: _Method) -> _Method:
        method.__dict__["unit"] = unit
        return method

    return mark


def samples(values: Sequence[float], reference: Sequence[float] | None = None) -> Figures:
    """Samples for asv, which compares them by a rank test: three minima, each over every third value.

    Other loads make a step slower and never faster, so minima of short blocks are steadier than medians.

    Args:
        values: seconds of a step, in the order of measuring.
        reference: those of another step, measured in turn; the samples are then ratios.
    """
    minima = [min(values[start::3]) for start in range(3)]
    if reference is not None:
        minima = [own / min(reference[start::3]) for start, own in enumerate(minima)]
    return {"samples": minima, "number": 1}
