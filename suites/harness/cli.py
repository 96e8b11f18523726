"""The command line: ``kronbench``, with one command from each module of ``suites.harness.commands``."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_COMMANDS = ("compare", "diff", "gpu", "gate", "list", "memory", "report", "reproduce", "tune")


class _Commands(TyperGroup):
    """Each command is imported when it is asked for: those that only read records start without torch."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(_COMMANDS)  # for suggestions where a name is misspelt

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        name = "list_" if cmd_name == "list" else cmd_name
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(getattr(import_module(f"suites.harness.commands.{name}"), name))
        return typer.main.get_command(alone)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _about() -> None:
    """Second-order optimizers for fully connected networks, compared fairly."""


def main() -> None:
    """Entry point: a usage error is one line as well."""
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        shown = getattr(error, "format_message", None)  # click's own errors, whichever click typer brings
        if shown is None:
            raise
        typer.echo(f"error: {shown()}", err=True)
        sys.exit(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    main()
