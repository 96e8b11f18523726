"""Finds optimizers by name: those of the package, every curvature with every solver, a user's own file, any class.

kfac                               a module of optimizers/
ea_cg[gamma=0,max_iter=20]         with options
fisher+ea_cg[damping=0.02]         any curvature with any solver
mine.py, folder/mine.py[lr=0.5]    a file with one torch.optim.Optimizer in it
torch.optim.AdamW[lr=0.001]        any importable one; it is given gradients
"""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import optimizers
from optimizers.core import CROSS_ENTROPY, CURVATURES, FCNN, SOLVERS, Criterion, SecondOrder
from suites.harness.names import import_file, method_of, unknown
from suites.harness.records.facts import Tuning

_SPEC = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<options>[^\[\]]*)\])?")
_GIVEN = ("self", "params", "criterion")  # what the harness fills in


@dataclass(frozen=True)
class Entry:
    """An optimizer that can be built: its name, a line about it, its options with their defaults."""

    name: str
    summary: str
    make: Callable[..., torch.optim.Optimizer]
    options: dict[str, Any]
    takes_criterion: bool
    source: str | None = None  # the text of a user's own file


@dataclass(frozen=True)
class Choice:
    """An entry with its options. ``spec`` writes them out; ``choose(given)`` gives the same choice in any process.

    tuning: ``tuned``: the setting that a search found for the task, see :func:`suites.harness.tuning.choice.resolve`;
        ``untuned``: the defaults; ``given``: the user wrote a value of an option that is searched.
    edge: the options of a tuned setting that lie at the edge of what was searched.
    """

    spec: str
    entry: Entry
    options: dict[str, Any]
    given: str
    tuning: Tuning = "untuned"
    edge: tuple[str, ...] = ()

    def build(self, network: FCNN, criterion: Criterion) -> torch.optim.Optimizer:
        """The optimizer over the parameters of a network.

        Raises:
            ValueError: if an option is out of range or the criterion does not suit.
        """
        given = {"criterion": criterion} if self.entry.takes_criterion else {}
        try:
            return self.entry.make(network.parameters(), **self.options, **given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"optimizer {self.spec}: {error}") from error


def named() -> dict[str, Entry]:
    """The optimizers of the package by name, one for each module."""
    entries: dict[str, Entry] = {}
    for info in pkgutil.iter_modules(optimizers.__path__):
        if not info.ispkg:
            module = importlib.import_module(f"optimizers.{info.name}")
            entries[info.name] = _entry(info.name, _only_optimizer(module), summary=module.__doc__)
    return entries


def grid() -> dict[str, Entry]:
    """Every curvature composed with every solver, by name."""
    entries: dict[str, Entry] = {}
    for curvature in CURVATURES:
        for solver in SOLVERS:
            make = partial(SecondOrder, curvature=CURVATURES[curvature], solver=SOLVERS[solver])
            options = {"lr": 0.1, **SOLVERS[solver].options}
            name = f"{curvature}+{solver}"
            entries[name] = Entry(name, f"{curvature} with {solver}", partial(make, **options), options, True)
    return entries


def choose(spec: str) -> Choice:
    """The optimizer that a specification names; the module header shows how it is written.

    Raises:
        ValueError: if the specification cannot be read, or names what does not exist.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise ValueError(f"optimizer {spec!r}: expected name or name[option=value,...], as in ea_cg[gamma=0]")
    entry = _find(match["name"].strip())
    options = _options(spec, match["options"] or "")
    for name in options:
        if name not in entry.options:
            raise ValueError(f"optimizer {spec!r}: {unknown('option', name, entry.options)}")
    written = ",".join(f"{name}={value}" for name, value in options.items())
    full = f"{entry.name}[{written}]" if written else entry.name
    return Choice(full, entry, options, spec, "untuned" if method_of(full) == full else "given")


def refuse_repeated(choices: Sequence[Choice]) -> None:
    """Refuse an optimizer that is given twice, even in two spellings: options that are left out have their defaults.

    Raises:
        ValueError: one line that names them all.
    """
    resolved = [(choice.entry.name, {**choice.entry.options, **choice.options}) for choice in choices]
    repeated = [choice.spec for choice, one in zip(choices, resolved, strict=True) if resolved.count(one) > 1]
    if repeated:
        raise ValueError(f"optimizer given more than once: {', '.join(repeated)}")


def allowed(entry: Entry) -> dict[str, str]:
    """What the options of an optimizer may be, in words; those of which its ``ranges`` say nothing are left out."""
    ranges = getattr(choose(entry.name).build(FCNN((1, 1), "sigmoid"), CROSS_ENTROPY), "ranges", {})
    return {option: ranges[option].text for option in entry.options if option in ranges}


def _find(name: str) -> Entry:
    if name.endswith(".py"):
        return _from_file(Path(name))
    known = {**named(), **grid()}
    if name in known:
        return known[name]
    if "." in name:
        return _from_import(name)
    raise ValueError(unknown("optimizer", name, known))


def _from_file(path: Path) -> Entry:
    module, source = import_file("optimizer", path)
    return _entry(path.stem, _only_optimizer(module), summary=module.__doc__, source=source)


def _from_import(name: str) -> Entry:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"optimizer {name}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(f"optimizer {name}: it is no torch.optim.Optimizer")
    return _entry(name, found, summary=found.__doc__)


def _only_optimizer(module: ModuleType) -> type[torch.optim.Optimizer]:
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise ValueError(f"optimizer {module.__file__}: it must define one torch.optim.Optimizer, found {names}")
    return found[0]


def _entry(name: str, cls: type[torch.optim.Optimizer], *, summary: str | None, source: str | None = None) -> Entry:
    takes_criterion = "criterion" in inspect.signature(cls).parameters
    return Entry(name, (summary or cls.__name__).strip().splitlines()[0], cls, _defaults(cls), takes_criterion, source)


def _defaults(function: Callable[..., Any], skip: tuple[str, ...] = _GIVEN) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default for p in parameters if p.name not in skip and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def _options(spec: str, text: str) -> dict[str, Any]:
    """Read like the keywords of a call, except that a text needs no quotes."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        call = None
    options = {keyword.arg: _value(keyword.value) for keyword in call.keywords} if isinstance(call, ast.Call) else {}
    if not isinstance(call, ast.Call) or call.args or None in options or len(options) < len(call.keywords):
        raise ValueError(f"optimizer {spec!r}: expected option=value,..., each option once, got {text!r}")
    return {str(name): value for name, value in options.items()}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
