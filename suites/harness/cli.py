"""The command line: ``kronbench``, with one command from each module of ``suites.harness.commands``."""

import gc
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from suites.harness.names import flag_of_today

_MODULES = {"list": "optimizers", "check": "optimizers", "new": "optimizers"}  # the others have their own name
_COMMANDS = ("check", "compare", "diff", "gpu", "gate", "list", "memory", "new", "report", "reproduce", "tune")
_GO_ON = ("compare", "reproduce", "tune")  # from where they were stopped


class _Commands(TyperGroup):
    """Each command is imported when it is asked for: those that only read records start without torch."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(_COMMANDS)  # for suggestions where a name is misspelt

    def list_commands(self, ctx: object) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        function = "list_" if cmd_name == "list" else cmd_name
        alone = typer.Typer(add_completion=False)
        settings = {"token_normalize_func": flag_of_today}
        alone.command(cmd_name, context_settings=settings)(
            getattr(import_module(f"suites.harness.commands.{_MODULES.get(cmd_name, cmd_name)}"), function)
        )
        return typer.main.get_command(alone)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kronbench {version('kronbench')}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Second-order optimizers for fully connected networks, compared fairly."""


def main() -> None:
    """Entry point: runs a command. An error is one line and an exit code.

    2: bad input; 1: a file could not be written; 130: Ctrl-C; 143: SIGTERM. A bug keeps its traceback.
    """
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, stop)
    code, problem = 0, ""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except BaseException as error:
        shown = getattr(error, "format_message", None)  # the errors of click, which typer may bring along
        if stopped:
            pass
        elif shown is not None:
            code, problem = getattr(error, "exit_code", 2), f"error: {shown()}"
        elif isinstance(error, OSError):
            code, problem = 1, f"error: {_said_by(error)}; {_how_to_go_on()}"
        else:
            raise
    finally:
        for number in numbers:
            signal.signal(number, before[number])
    if stopped:
        gc.freeze()  # else the last garbage collection takes a second
        code, problem = 128 + stopped[0], f"stopped: {_how_to_go_on()}"
    if problem:
        typer.echo(problem, err=True)
    sys.exit(code)


def _said_by(error: OSError) -> str:
    """``No space left on device: results/x``, or the words of an error that is not the system's."""
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def _how_to_go_on() -> str:
    goes_on = any(argument in _GO_ON for argument in sys.argv[1:2]) and "--no-resume" not in sys.argv
    again = "goes on from there" if goes_on else "begins anew"
    return f"what was written stays; the same command again {again}"


if __name__ == "__main__":
    main()
