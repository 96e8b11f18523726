"""``kronbench report``: recorded results as a page that opens from disk, tables and pictures."""

import http.server
import webbrowser
from functools import partial
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from suites.harness.commands.options import bad_input_is_one_line, writable

if TYPE_CHECKING:
    from suites.harness.analysis.experiment import Results

# imported where they are used: plotly and jinja2, which other commands do without


def report(
    results: Annotated[Path, typer.Argument(help="Folder of records, asv's history, figures.")] = Path("results"),
    output: Annotated[Path | None, typer.Option(help="Folder for site/ and tables/; by default the results.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Serve the page, on this machine only, and open it.")] = False,
    readme: Annotated[Path | None, typer.Option(help="Rewrite the headline of this file, and nothing else.")] = None,
) -> None:
    """Make a page, tables and pictures from records, and print the scores. Nothing is trained or measured."""
    from suites.harness.analysis.experiment import collect

    with bad_input_is_one_line():
        found = collect(results)
        if readme is not None:
            _rewrite(readme, found)
            return
        output = writable(output or found.folder)
    from suites.harness.analysis.profiles import SCORED, scoreboard
    from suites.harness.show.comparison import scores
    from suites.harness.show.page import build
    from suites.harness.show.table import fitted

    page = build(found, output)
    for line in found.unread:
        typer.echo(f"not read: {line}", err=True)
    runs = sum(len(experiment.records) for experiment in found.experiments)
    for cost in SCORED:
        if (board := scoreboard(found.experiments, cost)).scores:
            table = scores(board)
            typer.echo(f"{fitted(table)}\n\n{fill(table.note, 80)}\n")
    typer.echo(f"{runs} runs of {len(found.experiments)} experiments: {page}; tables are in {output / 'tables'}")
    if open_:
        _serve(page)


def _rewrite(readme: Path, found: "Results") -> None:
    from suites.harness.analysis.answer import answer
    from suites.harness.records.record import write_atomically
    from suites.harness.show.captions import PREFERRED, drawn, readme_block, sentences, with_headline
    from suites.harness.show.looks import marked
    from suites.harness.show.pictures import draw_headline

    experiment = next((one for one in found.experiments if one.name == PREFERRED), None)
    if experiment is None:
        raise ValueError(f"{found.folder}: the headline needs the records of {PREFERRED}")
    top, picture = answer(experiment.methods, experiment.target), experiment.folder / "headline"
    text = with_headline(readme.read_text(encoding="utf-8"), readme_block(experiment, picture.as_posix()))
    draw_headline(
        drawn(top),
        marked(experiment.methods),
        picture,
        f"{top.experiment.dataset}, {top.experiment.criterion}",
        ["svg"],
    )
    write_atomically(readme, text)
    typer.echo("\n".join([f"{readme}:", *sentences(top)]))


class _Site(http.server.SimpleHTTPRequestHandler):
    """Serves the files of one folder: no listings, and no links that lead out of it.

    The ``Host`` header of a request must name this machine. So another site whose name resolves to this machine (DNS
    rebinding) gets 403.
    """

    def send_head(self) -> BytesIO | BinaryIO | None:
        port = self.server.server_port  # pyright: ignore[reportAttributeAccessIssue]
        if self.headers.get_all("Host") not in ([f"127.0.0.1:{port}"], [f"localhost:{port}"]):
            return self.send_error(403)
        root = Path(self.directory).resolve()
        if not Path(self.translate_path(self.path)).resolve().is_relative_to(root):
            return self.send_error(404)
        return super().send_head()

    def list_directory(self, path: object) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


def site_server(page: Path) -> http.server.ThreadingHTTPServer:
    """A server of the page's folder, on a free port of this machine."""
    handler = partial(_Site, directory=str(page.parent))
    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)


def _serve(page: Path) -> None:
    with site_server(page) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        typer.echo(f"{address} until Ctrl-C")
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")
