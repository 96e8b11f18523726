"""``kronbench report``: what was recorded, as a page that opens from disk, tables and pictures."""

import http.server
import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suites.harness.commands.errors import bad_input_is_one_line

if TYPE_CHECKING:
    from suites.harness.show.collect import Results

# what draws and lays out the page is imported where it is used: the other commands run without plotly and jinja2


def report(
    results: Annotated[Path, typer.Argument(help="Folder of records, asv's history, figures.")] = Path("results"),
    output: Annotated[Path | None, typer.Option(help="Gets site/ and tables/; by default the results.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Serve the page on this machine alone, and open it.")] = False,
    readme: Annotated[Path | None, typer.Option(help="Rewrite the headline of this file, and nothing else.")] = None,
) -> None:
    """Turn what was recorded into a page, tables and pictures; nothing is trained or measured."""
    from suites.harness.show.collect import collect

    with bad_input_is_one_line():
        found = collect(results)
        if readme is not None:
            _rewrite(readme, found)
            return
    from suites.harness.show.page import build

    output = output or results
    page = build(found, output)
    for line in found.unread:
        typer.echo(f"not read: {line}", err=True)
    runs = sum(len(experiment.records) for experiment in found.experiments)
    typer.echo(f"{runs} runs of {len(found.experiments)} experiments: {page}; tables are in {output / 'tables'}")
    if open_:
        _serve(output, page)


def _rewrite(readme: Path, found: "Results") -> None:
    from suites.harness.records.record import write_atomically
    from suites.harness.show.headline import PREFERRED, headline, readme_block, with_headline
    from suites.harness.show.pictures import draw_headline

    experiment = next((one for one in found.experiments if one.name == PREFERRED), None)
    if experiment is None:
        raise ValueError(f"{found.folder}: the headline needs the records of {PREFERRED}")
    top, picture = headline(experiment), experiment.folder / "headline"
    text = with_headline(readme.read_text(encoding="utf-8"), readme_block(top, picture.as_posix()))
    draw_headline(top.costs, picture, experiment.name, ["svg"])
    write_atomically(readme, text)
    typer.echo(f"{readme}: {top.sentence}")


def _serve(folder: Path, page: Path) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/{page.relative_to(folder).as_posix()}"
        typer.echo(f"{address} until Ctrl-C")
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")
