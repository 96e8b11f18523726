"""Finds optimizers by name: those of the package, every curvature with every solver, a file, any class or factory.

kfac                               a module of optimizers/
ea_cg[gamma=0,max_iter=20]         with options
fisher+ea_cg[damping=0.02]         any curvature with any solver
mine.py, folder/mine.py[lr=0.5]    a file, see :mod:`suites.harness.measure.contract`
mine                               an installed package's entry point in the group ``kronbench.optimizers``
torch.optim.AdamW[betas=(0.9,0.99)]    any importable class or factory
"""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

import torch

import optimizers
from optimizers.core import CROSS_ENTROPY, CURVATURES, FCNN, SOLVERS, Criterion, SecondOrder
from suites.harness.measure.contract import REQUIRED, Entry, build, entry_of, of_class, optimizers_in
from suites.harness.names import import_file, method_of, pick, unknown
from suites.harness.records.facts import Option, Tuning
from suites.harness.training.schedule import SCHEDULES

GROUP = "kronbench.optimizers"
LIBRARIES = (
    "torch.optim",
    "heavyball",
    "pytorch_optimizer",
)  # their optimizers are listed; those of others work as well
_SPEC = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<options>.*)\])?", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """An entry with its options. ``spec`` writes them out; ``choose(given)`` gives the same choice in any process.

    tuning: ``tuned``: the setting that a search found for the task, see :func:`suites.harness.tuning.choice.resolve`;
        ``untuned``: the defaults; ``given``: the user wrote a value of an option that is searched.
    edge: the options of a tuned setting whose value lies at the edge of the search. trials: the settings it tried.
    """

    spec: str
    entry: Entry
    options: dict[str, Option]
    given: str
    tuning: Tuning = "untuned"
    edge: tuple[str, ...] = ()
    trials: int | None = None

    @property
    def schedule(self) -> str | None:
        """The schedule of the learning rate that the specification names. It is no option of the optimizer."""
        given = None if "schedule" in self.entry.options else self.options.get("schedule")
        return None if given is None else str(given)

    def build(self, network: FCNN, criterion: Criterion) -> torch.optim.Optimizer:
        """The optimizer over the parameters of a network.

        Raises:
            ValueError: as :func:`suites.harness.measure.contract.build`.
        """
        try:
            own = {n: value for n, value in self.options.items() if n != "schedule" or n in self.entry.options}
            return build(self.entry, network, criterion, own)
        except ValueError as error:
            raise ValueError(f"optimizer {self.spec}: {error}") from error


def named() -> dict[str, Entry]:
    """The optimizers of the package by name, one for each module."""
    modules = (info.name for info in pkgutil.iter_modules(optimizers.__path__) if not info.ispkg)
    return {name: entry_of(name, importlib.import_module(f"optimizers.{name}")) for name in modules}


def grid() -> dict[str, Entry]:
    """Every curvature composed with every solver, by name."""
    entries: dict[str, Entry] = {}
    for curvature in CURVATURES:
        for solver in SOLVERS:
            options = {"lr": 0.1, **SOLVERS[solver].options}
            name = f"{curvature}+{solver}"
            make = partial(of_class, SecondOrder, curvature=CURVATURES[curvature], solver=SOLVERS[solver], **options)
            entries[name] = Entry(name, f"{curvature} with {solver}", make, options)
    return entries


def installed() -> dict[str, EntryPoint]:
    """Entry points of installed packages in the group ``kronbench.optimizers``, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def of_library(library: str) -> dict[str, Entry]:
    """The optimizers of a library that need only parameters, by name; none if it is not installed."""
    if find_spec(library.partition(".")[0]) is None:
        return {}
    entries = (
        entry_of(f"{library}.{name}", cls)
        for name, cls in sorted(optimizers_in(importlib.import_module(library)).items())
        if next(iter(inspect.signature(cls).parameters)) == "params"
    )
    return {entry.name: entry for entry in entries if REQUIRED not in entry.options.values()}


def choose(spec: str) -> Choice:
    """The optimizer of a specification; the module header shows its forms.

    Raises:
        ValueError: one line, if the specification cannot be read, or nothing has its name.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise ValueError(f"optimizer {spec!r}: expected name or name[option=value,...], as in ea_cg[gamma=0]")
    entry = _find(match["name"].strip())
    options = _options(spec, match["options"] or "")
    known = dict.fromkeys([*entry.options, "schedule"])
    for name in options:
        if name not in known:
            raise ValueError(f"optimizer {spec!r}: {unknown('option', name, known)}")
    if "schedule" in options and "schedule" not in entry.options:
        pick("schedule", str(options["schedule"]), SCHEDULES)
    return _choice(spec, entry, options)


def _choice(given: str, entry: Entry, options: dict[str, Option]) -> Choice:
    written = ",".join(f"{name}={_written(value)}" for name, value in options.items())
    full = f"{entry.name}[{written}]" if written else entry.name
    return Choice(full, entry, options, given, "untuned" if method_of(full) == full else "given")


def refuse_repeated(choices: Sequence[Choice]) -> None:
    """Refuse an optimizer that is given twice, also if only one spells out its defaults.

    Raises:
        ValueError: one line that names them all.
    """
    resolved = [(choice.entry.name, {**choice.entry.options, **choice.options}) for choice in choices]
    repeated = [choice.spec for choice, one in zip(choices, resolved, strict=True) if resolved.count(one) > 1]
    if repeated:
        raise ValueError(f"optimizer given more than once: {', '.join(repeated)}")


def allowed(entry: Entry) -> dict[str, str]:
    """The ranges of an optimizer's options, in words; options without a range are left out."""
    ranges = getattr(choose(entry.name).build(FCNN((1, 1), "sigmoid"), CROSS_ENTROPY), "ranges", {})
    return {option: ranges[option].text for option in entry.options if option in ranges}


def _find(name: str) -> Entry:
    if name.endswith(".py"):
        return _from_file(Path(name))
    known, points = {**named(), **grid()}, installed()
    if name in known:
        return known[name]
    if name in points:
        return _from_entry_point(points[name])
    if "." in name:
        return _from_import(name)
    raise ValueError(unknown("optimizer", name, [*known, *points]))


def _from_file(path: Path) -> Entry:
    if path.stem in named():
        raise ValueError(f"optimizer {path}: {path.stem} is the name of another optimizer; rename the file")
    module, source = import_file("optimizer", path)
    return entry_of(path.stem, module, source=source)


def _from_entry_point(point: EntryPoint) -> Entry:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
    try:
        found = point.load()
    except Exception as error:
        raise ValueError(
            f"optimizer {point.name}: {point.value} of {package} does not import: {type(error).__name__}: {error}"
        ) from error
    entry = entry_of(point.name, found)
    return replace(entry, packages={**entry.packages, **({point.dist.name: point.dist.version} if point.dist else {})})


def _from_import(name: str) -> Entry:
    path, _, attribute = name.rpartition(".")
    top = name.partition(".")[0]
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name == top:
            raise ValueError(f"optimizer {name}: {top} is not installed: python -m pip install {top}") from error
        raise ValueError(f"optimizer {name}: {error}") from error
    except Exception as error:
        raise ValueError(f"optimizer {name}: {path} does not import: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise ValueError(f"optimizer {name}: {unknown(f'optimizer of {path}', attribute, optimizers_in(module))}")
    return entry_of(name, getattr(module, attribute))


def _options(spec: str, text: str) -> dict[str, Option]:
    """Read options like the keywords of a call; a text needs no quotes."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        call = None
    options = {keyword.arg: _value(keyword.value) for keyword in call.keywords} if isinstance(call, ast.Call) else {}
    if not isinstance(call, ast.Call) or call.args or None in options or len(options) < len(call.keywords):
        raise ValueError(f"optimizer {spec!r}: expected option=value,..., each option once, got {text!r}")
    return {str(name): value for name, value in options.items()}


def _value(node: ast.expr) -> Option:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
    return tuple(value) if isinstance(value, list) else value


def _written(value: Option) -> str:
    """A value as in a specification: a text without quotes, unless it would be read as something else."""
    if not isinstance(value, str):
        return str(value)
    try:
        read = _value(ast.parse(value, mode="eval").body)
    except SyntaxError:
        read = None
    return value if read == value else repr(value)
