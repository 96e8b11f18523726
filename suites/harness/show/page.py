"""Writes the page with its pictures and tables."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from suites.harness.analysis.answer import Answer, answer
from suites.harness.analysis.curves import AXES
from suites.harness.records.record import finite, write_atomically
from suites.harness.show.captions import drawn, main_experiment, problem, sentences
from suites.harness.show.collect import Results
from suites.harness.show.figures import DASHES, Styles
from suites.harness.show.pictures import COLOURS, draw_curves, draw_headline
from suites.harness.show.sections import Section, all_sections
from suites.harness.show.table import WRITERS, slug

_GLYPHS = "●■◆▲▼✚✖★"  # as the markers of figures
_STROKES = dict(zip(DASHES, ("", "6 3", "8 3 2 3", "2 2", "9 3 2 3 2 3"), strict=True))


def build(results: Results, output: Path) -> Path:
    """Write ``site`` and ``tables`` into a folder; returns the path of the page."""
    site, shown = output / "site", main_experiment(results.experiments)
    order = sorted(results.experiments, key=lambda one: (one is not shown, not one.name.startswith("published/")))
    results = replace(results, experiments=order)
    styles = Styles(method for experiment in order for method in experiment.by_method.methods)
    top = answer(shown.methods, shown.target) if shown else None
    if shown and top and top.leads:
        draw_headline(drawn(top), site / "pictures" / "headline", problem(shown.records))
    for experiment in results.experiments:
        title = f"{experiment.name}: {problem(experiment.records)}"
        path, groups = site / "pictures" / slug(experiment.name), experiment.by_method.methods
        looks = {method: styles.position(method) for method in groups}
        draw_curves(groups, list(AXES), path, title, experiment.target, looks, suffixes=("svg", "png", "pdf"))
    sections = list(all_sections(results, styles))
    for section in sections:
        for table in section.tables:
            for suffix, written in WRITERS.items():
                write_atomically(output / "tables" / f"{table.name}.{suffix}", written(table))
    package = files("suites.harness.show")
    for name in ("page.css", "page.js"):
        write_atomically(site / name, (package / name).read_text(encoding="utf-8"))
    library = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    write_atomically(site / "plotly.min.js", library)
    write_atomically(site / "index.html", _rendered(sections, top, styles, site, results))
    return site / "index.html"


def _rendered(sections: Sequence[Section], top: Answer | None, styles: Styles, site: Path, results: Results) -> str:
    loader = PackageLoader("suites.harness.show", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["href"] = lambda path: quote(Path(os.path.relpath(path, site)).as_posix())
    data = {
        "figures": {f"{s.name}-figure-{n}": f.plotly for s in sections for n, f in enumerate(s.figures)},
        "forms": {t.name: {suffix: w(t) for suffix, w in WRITERS.items()} for s in sections for t in s.tables},
        "axes": {axis: label for axis, (_, label) in AXES.items()},
    }
    return environment.get_template("template.html").render(
        sections=sections,
        answer=top and sentences(top),
        costs=list(drawn(top)) if top else [],
        shown=main_experiment(results.experiments),
        experiments=results.experiments,
        counts=Counter(record.status for one in results.experiments for record in one.records),
        unread=results.unread,
        data=finite(data),
        axes=AXES,
        swatch=lambda method: _swatch(styles.position(method)),
    )


def _swatch(position: int) -> dict[str, Any]:
    return {
        "colour": position % len(COLOURS),
        "strokes": _STROKES[DASHES[position % len(DASHES)]],
        "glyph": _GLYPHS[position % len(_GLYPHS)],
    }
