"""The command line: ``kronbench``, with one command from each module of ``suites.harness.commands``."""

import sys

import typer

from suites.harness.commands.compare import compare
from suites.harness.commands.diff import diff
from suites.harness.commands.gate import gate
from suites.harness.commands.gpu import gpu
from suites.harness.commands.listing import list_
from suites.harness.commands.memory import memory
from suites.harness.commands.report import report
from suites.harness.commands.reproduce import reproduce
from suites.harness.commands.tune import tune

app = typer.Typer(
    help="Second-order optimizers for fully connected networks, compared fairly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(compare)
app.command()(diff)
app.command()(gpu)
app.command()(gate)
app.command(name="list")(list_)
app.command()(memory)
app.command()(report)
app.command()(reproduce)
app.command()(tune)


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
