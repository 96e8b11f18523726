"""Reads a page of HTML for tests: its elements in order, with what they stand in."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_EMPTY = {"img", "input", "link", "meta", "path", "source", "br"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    parents: tuple["Element", ...]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self):
        """All text in it."""
        return " ".join("".join(self.texts).split())

    @property
    def classes(self):
        return (self.attributes.get("class") or "").split()

    def within(self, tag, name=None):
        return any(one.tag == tag and (name is None or name in one.classes) for one in self.parents)


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), tuple(self.open))
        self.found.append(element)
        if tag not in _EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.found.append(Element(tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.texts.append(data)


def elements(page):
    """All elements of a page; every one that opens must close."""
    reader = _Reader()
    reader.feed(page)
    assert not reader.open
    return reader.found


def rows(page, table):
    """The cells of the rows of a table by its id, without its head."""
    found = elements(page)
    body = [
        one for one in found if one.tag in ("td", "th") and any(p.attributes.get("id") == table for p in one.parents)
    ]
    by_row = {}
    for cell in body:
        if cell.within("tbody"):
            by_row.setdefault(id(cell.parents[-1]), []).append(cell)
    return list(by_row.values())
