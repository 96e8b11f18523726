"""Shared by the benchmarks: optimizers, networks, and measurements of one process for several benchmarks.

asv takes this folder from the working tree and the packages from the commit under test. So names are those of the
working tree; for what an old commit lacks, ``setup`` raises NotImplementedError, which asv shows as n/a. asv starts a
process for every number. The first process that needs one measures all numbers of its group, interleaved, and the other
processes read them. Nothing here imports torch before it measures.
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

# as in asv.conf.json, for existing environments: with more threads a step waits for cores that other work keeps busy
os.environ.setdefault("OMP_NUM_THREADS", "1")

WORKLOAD_VERSION = "1"  # raise it when a benchmark measures something else: numbers of two versions are not compared

_FOLDER = Path(__file__).resolve().parents[1] / "optimizers"
OPTIMIZERS = (
    *sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")),
    *shlex.split(os.environ.get("KRONBENCH_OPTIMIZERS", "")),  # anyone's: "/full/path/mine.py torch.optim.AdamW"
)
FORMS = tuple(f"kfac[inverse={form}]" for form in ("factor", "gram", "rank_one"))  # of KFI; kfac itself is "exact"
PHASES = ("forward_backward", "curvature", "solve", "update")
REFERENCE = "sgd"

# by present module: the module in old commits, and the names there
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
    """A part of the installed harness, by its present module and name, or by those that an old commit has.

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
            raise  # a package is missing in the environment: that is no old commit
        return None


def network(problem: str) -> tuple[int, ...]:
    """The sizes of a problem's network. Old commits have a table of them."""
    try:
        return harness("data.problem", "find")(problem).network
    except NotImplementedError:
        return harness("training.experiment", "NETWORKS")[problem]


def first_target(problem: str) -> float:
    """The first target of a problem. Old commits have a table of them."""
    try:
        return harness("data.problem", "find")(problem).targets[0]
    except NotImplementedError:
        return harness("training.experiment", "TARGETS")[problem]


def task(problem: str = "digits", network: tuple[int, ...] = (), batch_size: int = 100) -> Any:
    """A :class:`suites.harness.training.experiment.Task`, on the GPU where there is one."""
    settings = harness("training.experiment", "Settings")(problem, network=network, batch_size=batch_size)
    return harness("training.experiment", "Task").load(settings)


def choices(specs: Sequence[str], task: Any) -> tuple[list[Any], Figures]:
    """The optimizers that can take a step, and for each of the others the reason, in place of its number."""
    usable, others = [], {}
    for spec in specs:
        try:
            choice = harness("training.catalog", "choose")(spec)
        except ValueError as error:
            others[spec] = {"missing": str(error)}
            continue
        try:
            task.step(choice, seed=0)()
            usable.append(replace(choice, spec=spec))  # numbers go by the name that was asked for
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
    """Old commits build the steps from the problem and the choices."""
    try:
        return harness("measure.timing", formerly)(task, choices, at_most_seconds=at_most_seconds)
    except NotImplementedError:
        steps = {choice.spec: task.step(choice, seed=0) for choice in choices}
        return harness("measure.timing", name)(steps, task.settings.device, at_most_seconds=at_most_seconds)


class Shared:
    """Benchmarks whose numbers one process measures. In each round asv runs all of them in the same folder."""

    version = WORKLOAD_VERSION
    timeout = 1800  # seconds; the first process of a group measures all

    def setup_cache(self) -> None:
        """Empty: asv makes the folder because this method exists."""


def shared(group: str, keys: Sequence[str], measure: Callable[[], Figures]) -> Any:
    """The number under ``keys`` in the result of ``measure``, which runs once in a round.

    If the same benchmark asks again in the same folder, its next round has begun (``-a rounds=4`` in an existing
    environment), and all is measured again. Otherwise samples would count twice.

    Raises:
        NotImplementedError: if there is no such number.
        RuntimeError: if its measurement failed.
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
    """The result of the function, or the reason why it failed, so that it is not tried again."""
    try:
        return measure()
    except NotImplementedError as error:
        return {"missing": str(error)}
    except Exception:
        return {"failed": traceback.format_exc()}


def quick() -> bool:
    """Whether this is ``asv run --quick``."""
    return _request()[1].get("repeat") == 1


def leave_out_of_quick() -> None:
    """What takes long is left out of a quick run. Measured on a smaller scale it would be another quantity.

    Raises:
        NotImplementedError: in a quick run.
    """
    if quick():
        raise NotImplementedError("left out of --quick")


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
        reference: seconds of another step, measured in turn. Samples are ratios then.
    """
    minima = [min(values[start::3]) for start in range(3)]
    if reference is not None:
        minima = [own / min(reference[start::3]) for start, own in enumerate(minima)]
    return {"samples": minima, "number": 1}
