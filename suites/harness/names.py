"""Looking things up by name, with the nearest name suggested; names of files."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def pick(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry called ``name``.

    Raises:
        ValueError: if there is none; the message names the nearest and all that there are.
    """
    if name in table:
        return table[name]
    raise ValueError(unknown(kind, name, table))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line that says that a name is unknown, what was probably meant, and what there is."""
    choices = list(known)
    nearest = get_close_matches(name, choices, n=1, cutoff=0.5)
    suggestion = f" did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {name!r}:{suggestion} there are: {', '.join(choices)}"


def file_name(text: str) -> str:
    """A text such as ``fisher+ea_cg[damping=0.02]`` as a name that every file system takes, without an ending."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "_", text).strip("_.")
