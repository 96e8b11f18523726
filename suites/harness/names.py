"""Looking things up by name, with the nearest name suggested; importing a user's own file; names of files."""

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


def pick(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry called ``name``.

    Raises:
        ValueError: if there is none; the message names the nearest and all that there are.
    """
    if name in table:
        return table[name]
    raise ValueError(unknown(kind, name, table))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line: the name is unknown, which one was probably meant, and all that there are."""
    choices = list(known)
    nearest = get_close_matches(name, choices, n=1, cutoff=0.5)
    suggestion = f" did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {name!r}:{suggestion} there are: {', '.join(choices)}"


def method_of(spec: str) -> str:
    """The method of a setting: ``kfac[inverse=gram]`` of ``kfac[inverse=gram,lr=0.1]``; a search varies the rest."""
    name, _, options = spec.removesuffix("]").partition("[")
    kept = [option for option in options.split(",") if option and option.partition("=")[0] not in TUNED]
    return f"{name}[{','.join(kept)}]" if kept else name


def file_name(text: str) -> str:
    """A text such as ``fisher+ea_cg[damping=0.02]`` as a name that every file system takes, without an ending."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "_", text).strip("_.")


def flag_of_today(name: str) -> str:
    """The name of a flag, which old command lines and configuration files may call otherwise."""
    return _FORMER_FLAGS.get(name, name)


def import_file(kind: str, path: Path) -> tuple[ModuleType, str]:
    """Import one Python file from anywhere; returns the module and the text that was run.

    Args:
        kind: what the file holds, for the message.

    Raises:
        ValueError: one line, if the file cannot be read or an exception ends its import.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{kind} {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{kind} {path}: it cannot be read: {error}") from error
    module = ModuleType(f"_{kind}_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{kind} {path}: importing it failed: {type(error).__name__}: {said}") from error
    return module, source
