"""MkDocs hooks: pages link to files of the repository, ``../results/...``, as they do where Markdown is shown as it is.

A linked file that lies outside ``docs/`` is copied to the site, at its path in the repository.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?P<target>[^)#\s:]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, and those that these link to."""
    pages = list(files.documentation_pages())
    while pages:
        page = pages.pop()
        for match in LINK.finditer(page.content_string):
            path = _in_repository(page, match["target"])
            if not path.startswith("docs/") and (ROOT / path).is_file() and files.get_file_from_path(path) is None:
                linked = File.generated(config, path, abs_src_path=str(ROOT / path))
                files.append(linked)
                pages += [linked] if linked.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between files of the site."""

    def rewritten(match: re.Match[str]) -> str:
        path = _in_repository(page.file, match["target"]).removeprefix("docs/")
        return posixpath.relpath(path, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(rewritten, markdown)


def _in_repository(page: File, target: str) -> str:
    """The path in the repository that a link of a page leads to."""
    own = Path(str(page.abs_src_path)).relative_to(ROOT).parent.as_posix()
    return posixpath.normpath(posixpath.join(own, target))
