"""The contract of an optimizer, and how one is built; docs/optimizers.md has the contract in words.

It is a class, ``cls(params, **options)``, or a factory, ``make(network, criterion, **options)``. Either returns a
``torch.optim.Optimizer``. A :class:`TapeOptimizer` steps from a tape, any other from ``param.grad``.
"""

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from types import FunctionType, ModuleType
from typing import Any

import torch

from optimizers.core import FCNN, Criterion, TapeOptimizer
from optimizers.core.solvers.inverses import is_out_of_memory
from optimizers.core.together import Together
from suites.harness.records.facts import Option

Make = Callable[..., torch.optim.Optimizer]
REQUIRED = "?"  # stands for the default of an option that has none
_KNOWN_ANYWAY = ("torch", "kronbench")  # a record has their versions anyway


@dataclass(frozen=True)
class Entry:
    """An optimizer that can be built: ``make(network, criterion, **options)``.

    summary: a line about it.
    options: the defaults of its options, as a record holds them.
    source: the text of a user's own file.
    packages: versions of the installed packages that it comes from.
    """

    name: str
    summary: str
    make: Make
    options: Mapping[str, Option]
    source: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


def entry_of(name: str, found: object, summary: str | None = None, source: str | None = None) -> Entry:
    """The entry of a class, a factory, or a module that holds one.

    Raises:
        ValueError: one line, if it is neither.
    """
    if isinstance(found, ModuleType):
        return entry_of(name, _only(found), found.__doc__ or summary, source)
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
        make, given = partial(of_class, found), 1
    elif isinstance(found, FunctionType):
        make, given = found, 2
        if list(inspect.signature(found).parameters)[:2] != ["network", "criterion"]:
            raise ValueError(f"optimizer {name}: a factory begins with (network, criterion), got {_call(found)}")
    else:
        raise ValueError(f"optimizer {name}: expected a torch.optim.Optimizer or a factory, got {found!r}")
    modules = [found.__module__, *(_imported(source) if source else ())]
    summary = (summary or found.__doc__ or found.__name__).strip().splitlines()[0]
    return Entry(name, summary, make, _defaults(found, given), source, _packages(*modules))


def build(entry: Entry, network: FCNN, criterion: Criterion, options: Mapping[str, Option]) -> torch.optim.Optimizer:
    """The optimizer over the parameters of a network.

    Raises:
        ValueError: one line, if an option is out of range, the criterion does not suit, or the result is no optimizer
            of this network.
    """
    try:
        made = entry.make(network, criterion, **options)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or [""])[0]
        kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{kind}{said}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(f"it must return a torch.optim.Optimizer, got {type(made).__name__}")
    if not {p for group in made.param_groups for p in group["params"]} & set(network.parameters()):
        raise ValueError("it has no parameter of the network; build it over network.parameters()")
    return made


def takes_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its ``step`` needs a closure."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def rest_of(optimizer: torch.optim.Optimizer) -> str | None:
    """The optimizer of the parameters that this one does not take; None if it takes all."""
    if not isinstance(optimizer, Together):
        return None
    _, rest = optimizer.parts
    return f"{type(rest).__module__.rpartition('.')[0]}.{type(rest).__name__}[lr={float(rest.param_groups[0]['lr']):g}]"


def of_class(
    cls: Callable[..., torch.optim.Optimizer], network: FCNN, criterion: Criterion, **options: Any
) -> torch.optim.Optimizer:
    """An optimizer of a class over all parameters, also of one such as Muon, which takes matrices only.

    First the class gets all parameters. If it refuses them, it gets groups with ``use_muon``, as several libraries want
    them. If it refuses these too, it gets the matrices, and AdamW the rest, at the same learning rate.
    """
    if "criterion" in inspect.signature(cls).parameters:
        options["criterion"] = criterion
    if isinstance(cls, type) and issubclass(cls, TapeOptimizer):
        return cls(network.parameters(), **options)
    matrices = [parameter for parameter in network.parameters() if parameter.ndim == 2]
    rest = [parameter for parameter in network.parameters() if parameter.ndim != 2]

    def with_adamw() -> torch.optim.Optimizer:
        of_matrices = cls(matrices, **options)
        return Together([of_matrices, torch.optim.AdamW(rest, lr=of_matrices.param_groups[0]["lr"])])

    try:
        return cls(network.parameters(), **options)
    except (RuntimeError, TypeError, ValueError) as error:
        groups = [{"params": matrices, "use_muon": True}, {"params": rest, "use_muon": False}]
        for way in (partial(cls, groups, **options), with_adamw):
            with suppress(Exception):
                return way()
        raise error from None


def _only(module: ModuleType) -> object:
    """The object that a module calls ``optimizer``, or its only class of an optimizer."""
    if "optimizer" in vars(module):
        return vars(module)["optimizer"]
    found = [cls for cls in optimizers_in(module).values() if cls.__module__ == module.__name__]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise ValueError(
            f"optimizer {module.__file__}: it must define one torch.optim.Optimizer, found {names}; or call the one "
            "that counts, or a factory, optimizer"
        )
    return found[0]


def optimizers_in(module: ModuleType) -> dict[str, type[torch.optim.Optimizer]]:
    """The public optimizers of a module by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
        and not name.startswith("_")
    }


def _defaults(function: Callable[..., object], given: int) -> dict[str, Option]:
    """Options with their defaults. The harness fills in the first ``given`` parameters."""
    parameters = list(inspect.signature(function).parameters.values())[given:]
    return {
        p.name: plain(p.default)
        for p in parameters
        if p.name != "criterion" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def plain(value: object) -> Option:
    """A value as a record holds it: numbers, texts and tuples of numbers; of other objects their name."""
    if value is inspect.Parameter.empty:
        return REQUIRED
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list) and all(isinstance(item, int | float) for item in value):
        return tuple(value)
    if isinstance(value, tuple | list | torch.dtype):
        return str(value)
    return getattr(value, "__name__", "default" if type(value) is object else type(value).__name__)


def _call(function: FunctionType) -> str:
    return f"{function.__name__}{inspect.signature(function)}"


def _imported(source: str) -> set[str]:
    """The modules that a source text imports."""
    nodes = list(ast.walk(ast.parse(source)))
    return {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} | {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }


def _packages(*modules: str) -> dict[str, str]:
    """The installed packages that modules belong to, with their versions."""
    tops = {module.partition(".")[0] for module in modules} - {*sys.stdlib_module_names, "optimizers", "suites"}
    found = {name: known for top in tops for name, known in _versions(top).items() if name not in _KNOWN_ANYWAY}
    return dict(sorted(found.items()))


def _versions(module: str) -> dict[str, str]:
    try:
        found = distribution(module)
        return {found.name: found.version}
    except PackageNotFoundError:  # the package has another name than its module
        return {name: version(name) for name in _owners().get(module, ())}


@cache
def _owners() -> Mapping[str, Iterable[str]]:
    """The packages of all modules. This takes seconds."""
    return packages_distributions()
