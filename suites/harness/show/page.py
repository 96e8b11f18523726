"""Writes the page with its pictures, tables and records. It links only to files in its folder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from jinja2 import Environment, PackageLoader, StrictUndefined

from suites.harness.analysis.answer import COSTS
from suites.harness.analysis.curves import AXES
from suites.harness.analysis.experiment import Results
from suites.harness.analysis.metrics import METRICS
from suites.harness.records.record import finite, write_atomically
from suites.harness.show.captions import PREFERRED, problem
from suites.harness.show.looks import COLOURS, DARK, by_label, look_of
from suites.harness.show.overview import Overview, overview
from suites.harness.show.pictures import draw_curves
from suites.harness.show.sections import Section, all_sections
from suites.harness.show.table import WRITERS, Table, slug


def build(results: Results, output: Path) -> Path:
    """Write ``site`` and ``tables`` into a folder; returns the path of the page."""
    site = output / "site"
    order = sorted(results.experiments, key=lambda one: (one.name != PREFERRED, not one.name.startswith("published/")))
    results = replace(results, experiments=order)
    for experiment in results.experiments:
        path, title = site / "pictures" / slug(experiment.name), problem(experiment.records)
        draw_curves(by_label(experiment.methods), list(AXES), path, title, experiment.target, ("svg", "png", "pdf"))
    first = overview(results.experiments)
    sections = list(all_sections(results, first))
    tables = [*first.tables, *(table for section in sections for table in section.tables)]
    for table in tables:
        for suffix, written in WRITERS.items():
            write_atomically(output / "tables" / f"{table.name}.{suffix}", written(table))
    for section in sections:
        if section.files:
            write_atomically(site / "records" / f"{section.name}.zip", _packed(results.folder, section.files))
    package = files("suites.harness.show")
    for name in ("page.css", "page.js"):
        write_atomically(site / name, (package / name).read_text(encoding="utf-8"))
    library = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    write_atomically(site / "plotly.min.js", library)
    write_atomically(site / "index.html", _rendered(first, sections, tables, results))
    return site / "index.html"


def _packed(results: Path, paths: Sequence[Path]) -> bytes:
    """Files of a folder of results as a zip file. The same files give the same bytes."""
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for path in sorted(set(paths)):
            name = ZipInfo(path.relative_to(results).as_posix())
            archive.writestr(name, path.read_bytes(), ZIP_DEFLATED)
    return packed.getvalue()


def _rendered(first: Overview, sections: Sequence[Section], tables: Sequence[Table], results: Results) -> str:
    loader = PackageLoader("suites.harness.show", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["slug"] = slug
    data = {
        "figures": {f"{s.name}-figure-{n}": f.plotly for s in sections for n, f in enumerate(s.figures)},
        "forms": {table.name: {suffix: written(table) for suffix, written in WRITERS.items()} for table in tables},
        "axes": {axis: label for axis, (_, label) in AXES.items()},
    }
    return environment.get_template("template.html").render(
        overview=first,
        costs={cost: METRICS[cost].short for cost in COSTS},
        sections=[section for section in sections if section.shown],
        missing=[section for section in sections if not section.shown],
        counts=Counter(record.status for one in results.experiments for record in one.records),
        unread=results.unread,
        data=finite(data),
        axes=AXES,
        look_of=look_of,
        colours=COLOURS,
        dark=DARK,
    )
