"""The look of a method: the same colour, marker and line in all pictures.

The paper's methods have the colour of their curvature, and a dashed line is KFI: KFAC and Fisher + EA-CG are both blue.
The first seven colours are Okabe and Ito's, which colour-blind people can tell apart, and markers differ as well. A
method without a look of its own, such as a user's, takes one by its name. Settings of one method share colour and
marker; the second and later ones are dotted and hollow.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from suites.harness.names import method_of, plain_name, shown_name
from suites.harness.records.groups import tuning_of
from suites.harness.records.record import Record


@dataclass(frozen=True)
class Form:
    """A marker or a dash, in the terms of matplotlib, plotly and SVG."""

    matplotlib: str | tuple[int, tuple[int, ...]]
    plotly: str
    svg: str


@dataclass(frozen=True)
class Look:
    """The look of a method. colour: its place in :data:`COLOURS`. hollow: whether the marker is not filled."""

    colour: int
    marker: Form
    dash: Form
    hollow: bool = False


COLOURS = ("#000000", "#56b4e9", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#7a52c7", "#8a5a2b", "#7f7f00")
DARK = ("#ffffff", "#7cc8f2", "#4a9fdc", "#2cc296", "#f0803c", "#dd97bd", "#f0b429", "#a78be0", "#c2955f", "#b5b52e")
_BLACK, _SKY, _BLUE, _GREEN, _RED, _PINK, _ORANGE, _VIOLET, _BROWN, _OLIVE = range(len(COLOURS))

_CIRCLE = Form("o", "circle", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0")
_SQUARE = Form("s", "square", "M-3.7-3.7h7.4v7.4h-7.4z")
_DIAMOND = Form("D", "diamond", "M0-5 5 0 0 5-5 0z")
_UP = Form("^", "triangle-up", "M0-4.6 4.6 3.6h-9.2z")
_DOWN = Form("v", "triangle-down", "M0 4.6 4.6-3.6h-9.2z")
_LEFT = Form("<", "triangle-left", "M-4.6 0 3.6-4.6v9.2z")
_RIGHT = Form(">", "triangle-right", "M4.6 0-3.6-4.6v9.2z")
_PLUS = Form("P", "cross", "M-1.6-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z")
_CROSS = Form("X", "x", "M-4.6-2.4-2.4-4.6 0-2.2 2.4-4.6 4.6-2.4 2.2 0 4.6 2.4 2.4 4.6 0 2.2-2.4 4.6-4.6 2.4-2.2 0z")
_STAR = Form("*", "star", "M0-5 1.3-1.6 4.9-1.5 2 .7 3 4.2 0 2.1-3 4.2-2 .7-4.9-1.5-1.3-1.6z")
_MARKERS = (_CIRCLE, _SQUARE, _DIAMOND, _UP, _DOWN, _LEFT, _RIGHT, _PLUS, _CROSS, _STAR)

_SOLID, _DASHED = Form("-", "solid", ""), Form("--", "dash", "6 3")
_BROKEN, _DOTTED = Form("-.", "dashdot", "8 3 2 3"), Form((0, (1, 1)), "dot", "2 2")

_LOOKS = {  # in the order of columns
    "SGD": Look(_BLACK, _CIRCLE, _SOLID),
    "Adam": Look(_SKY, _SQUARE, _BROKEN),
    "KFAC": Look(_BLUE, _DIAMOND, _DASHED),
    "K-FAC as practised": Look(_OLIVE, _CIRCLE, _DASHED),
    "EKFAC": Look(_BROWN, _SQUARE, _DASHED),
    "KFRA": Look(_GREEN, _UP, _DASHED),
    "EA-CG, PCH-1": Look(_RED, _STAR, _SOLID),
    "EA-CG, PCH-2": Look(_PINK, _CROSS, _SOLID),
    "PCH-1 + KFI": Look(_RED, _LEFT, _DASHED),
    "PCH-2 + KFI": Look(_PINK, _RIGHT, _DASHED),
    "Fisher + EA-CG": Look(_BLUE, _PLUS, _SOLID),
    "Gauss-Newton + EA-CG": Look(_GREEN, _DOWN, _SOLID),
    "HF": Look(_ORANGE, _DOWN, _SOLID),
    "Block HF": Look(_VIOLET, _UP, _SOLID),
    "Fisher": Look(_BLUE, _DIAMOND, _SOLID),  # curvatures and solvers by themselves
    "Gauss-Newton": Look(_GREEN, _UP, _SOLID),
    "PCH-1": Look(_RED, _STAR, _SOLID),
    "PCH-2": Look(_PINK, _CROSS, _SOLID),
    "KFI": Look(_ORANGE, _SQUARE, _DASHED),
    "EA-CG": Look(_VIOLET, _STAR, _SOLID),
}


def look_of(spec: str) -> Look:
    """The look of a method, however its specification is written."""
    name = plain_name(spec)
    if name in _LOOKS:
        return _LOOKS[name]
    colour, marker = divmod(crc32(name.encode()), len(_MARKERS))
    return Look(_ORANGE + colour % (len(COLOURS) - _ORANGE), _MARKERS[marker], _BROKEN)


def looks(specs: Iterable[str]) -> dict[str, Look]:
    """The looks of methods that are drawn together."""
    found: dict[str, Look] = {}
    seen: set[str] = set()
    for spec in sorted(set(specs)):
        look, again = look_of(spec), plain_name(spec) in seen
        found[spec] = replace(look, dash=_DOTTED, hollow=True) if again else look
        seen.add(plain_name(spec))
    return found


def labels(specs: Iterable[str]) -> dict[str, str]:
    """The names for people of methods that are shown together: the shortest that no other has.

    Options follow where two would have one name, and those that a search varies where two would still.
    """
    found = list(dict.fromkeys(specs))
    forms = (plain_name, lambda spec: shown_name(method_of(spec)))
    taken = [Counter(map(form, found)) for form in forms]

    def name(spec: str) -> str:
        names = (form(spec) for form, count in zip(forms, taken, strict=True) if count[form(spec)] == 1)
        return next(names, shown_name(spec))

    return {spec: name(spec) for spec in found}


def marked(groups: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """The labels of methods that are shown together; untuned ones are marked."""
    untuned = {spec for spec, group in groups.items() if tuning_of(group[0]) == "untuned"}
    return {spec: f"{label} (untuned)" if spec in untuned else label for spec, label in labels(groups).items()}


def by_label(groups: Mapping[str, Sequence[Record]]) -> dict[str, Sequence[Record]]:
    """The runs by marked label in place of the specification."""
    return {label: groups[spec] for spec, label in marked(groups).items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Names for people in the order of columns: the named methods first, then others by name."""
    order = {name: place for place, name in enumerate(_LOOKS)}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))
