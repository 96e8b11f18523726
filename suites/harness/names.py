"""Look-up by name with suggestions, names of optimizers for people and files, and import of a user's own file."""

import re
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
_FORMER_FLAGS = {"dataset": "problem"}
TUNED = ("lr", "damping", "max_iter", "tolerance")  # the options that a search varies
_PCH = {"-1": "EA-CG, PCH-1", "-1.0": "EA-CG, PCH-1", "0": "EA-CG, PCH-2", "0.0": "EA-CG, PCH-2"}  # by gamma
_SHOWN = {
    "sgd": "SGD",
    "kfac": "KFAC",
    "kfac_practised": "K-FAC as practised",
    "ekfac": "EKFAC",
    "kfra": "KFRA",
    "ea_cg": "EA-CG, PCH-1",
    "hf": "HF",
    "block_hf": "Block HF",
    "fisher+kfi": "KFAC",
    "gauss_newton+kfi": "KFRA",
    "pch1+kfi": "PCH-1 + KFI",
    "pch2+kfi": "PCH-2 + KFI",
    "fisher+ea_cg": "Fisher + EA-CG",
    "gauss_newton+ea_cg": "Gauss-Newton + EA-CG",
    "pch1+ea_cg": "EA-CG, PCH-1",
    "pch2+ea_cg": "EA-CG, PCH-2",
    "fisher": "Fisher",
    "gauss_newton": "Gauss-Newton",
    "pch1": "PCH-1",
    "pch2": "PCH-2",
    "kfi": "KFI",
}


def pick(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry called ``name``.

    Raises:
        ValueError: if there is none. The message has the nearest name, and all names.
    """
    if name in table:
        return table[name]
    raise ValueError(unknown(kind, name, table))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: the name that was probably meant, and all known ones."""
    choices = list(known)
    nearest = get_close_matches(name, choices, n=1, cutoff=0.5)
    suggestion = f" did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {name!r}:{suggestion} there are: {', '.join(choices)}"


def method_of(spec: str) -> str:
    """A specification without the options that a search varies: ``kfac[inverse=gram]``, without ``lr=0.1``."""
    name, options = _parts(spec)
    kept = [option for option in options if option.partition("=")[0] not in TUNED]
    return f"{name}[{','.join(kept)}]" if kept else name


def shown_name(spec: str) -> str:
    """The name for people, with options: ``EA-CG, PCH-2 [lr=0.2]`` for ``ea_cg[gamma=0,lr=0.2]``."""
    name, options = _shown_parts(spec)
    return f"{name} [{', '.join(options)}]" if options else name


def plain_name(spec: str) -> str:
    """The name for people without options: ``SGD`` for ``sgd[lr=1]``. All ways to write a method have the same one.

    A user's file or class keeps its name. Optimizers of ``torch.optim`` are named without their module, except SGD:
    that is the name of this package's.
    """
    return _shown_parts(spec)[0]


def other_options(spec: str) -> list[str]:
    """The options that the plain name leaves out: ``["lr=0.2"]`` for ``ea_cg[gamma=0,lr=0.2]``."""
    return _shown_parts(spec)[1]


def _shown_parts(spec: str) -> tuple[str, list[str]]:
    """The name for people, and the options that it leaves out."""
    name, options = _parts(spec)
    given = {option.partition("=")[0]: option for option in options}
    if name == "ea_cg" and "gamma" in given:
        known = _PCH.get(given["gamma"].partition("=")[2])
        return known or "EA-CG, PCH", [option for option in options if not known or option != given["gamma"]]
    if name.startswith("torch.optim.") and name != "torch.optim.SGD":
        name = name.rpartition(".")[2]
    return _SHOWN.get(name, name), options


def _parts(spec: str) -> tuple[str, list[str]]:
    """Name and options of a specification."""
    name, _, options = spec.removesuffix("]").partition("[")
    return name, [option for option in re.split(r",(?![^(]*\))", options) if option]


def file_name(text: str) -> str:
    """A text such as ``fisher+ea_cg[damping=0.02]`` as a stem that every file system takes."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "_", text).strip("_.")


def flag_of_today(name: str) -> str:
    """The present name of a flag. Old command lines and configuration files may have another."""
    return _FORMER_FLAGS.get(name, name)


def said(error: BaseException) -> str:
    """The kind of an error, and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def import_file(kind: str, path: Path) -> tuple[ModuleType, str]:
    """Import a Python file from anywhere; returns the module and its source.

    Args:
        kind: what the file holds, for the message.

    Raises:
        ValueError: one line, if the file cannot be read or its import raises an exception.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{kind} {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{kind} {path}: it cannot be read: {error}") from error
    module = ModuleType(f"_{kind}_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for their module
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except Exception as error:
        raise ValueError(f"{kind} {path}: importing it failed: {said(error)}") from error
    return module, source
