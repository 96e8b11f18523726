"""A griffe extension: docstrings are plain text, and these are the two habits in them that Markdown would spoil."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod):`~?([^`]+)`")
COLUMNS = re.compile(r"(?m)^\S.*\S {3,}\S")


class Docstrings(griffe.Extension):
    """Keeps paragraphs that are laid out in columns as they are, and shows roles of Sphinx as code."""

    def on_instance(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrite the docstring of one module, class or function."""
        if obj.docstring:
            paragraphs = ROLE.sub(r"`\1`", obj.docstring.value).split("\n\n")
            obj.docstring.value = "\n\n".join(map(_columns_kept, paragraphs))


def _columns_kept(paragraph: str) -> str:
    return f"```text\n{paragraph}\n```" if len(COLUMNS.findall(paragraph)) > 1 else paragraph
