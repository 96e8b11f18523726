"""Configuration files: every flag of a command, by its name with underscores, as TOML."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suites.harness.names import flag_of_today, unknown
from suites.harness.records.record import write_atomically

# The TOML libraries are imported where they are used, so that commands that read and write none run without them.


def read_config(path: Path, command: str, known: list[str]) -> dict[str, Any]:
    """The flags of a command that a file sets.

    Raises:
        ValueError: if the file is missing, is no TOML, is of another command, or sets an unknown flag.
    """
    values = read_toml(path)
    written_by = values.pop("command", command)
    if written_by != command:
        raise ValueError(f"config {path}: it has the flags of kronbench {written_by}, not of {command}")
    for name in values:
        if name not in known:
            raise ValueError(f"config {path}: {unknown('flag', name, known)}")
    return values


def read_toml(path: Path, kind: str = "config") -> dict[str, Any]:
    """Read a TOML file; flags get their present names. Messages call the file ``kind``.

    Raises:
        ValueError: if it is missing, or no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pyright: ignore[reportMissingImports]

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{kind} {path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ValueError(f"{kind} {path}: {error}") from error
    return {flag_of_today(name): value for name, value in values.items()}


def write_config(path: Path, command: str, flags: Mapping[str, object]) -> None:
    """Write the flags of a command; :func:`read_config` gives them back."""
    write_toml(path, {"command": command, **flags})


def write_toml(path: Path, values: Mapping[str, object]) -> None:
    """Write values. TOML has no None, so None is left out."""
    import tomli_w

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    write_atomically(path, tomli_w.dumps({name: value for name, value in plain.items() if value is not None}))
