"""README and documentation: short, true to the code, without a dead link, and built without a warning or a network."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

import optimizers
from suites.harness.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("README.md")])
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```")
PYTHON = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, block in enumerate(BLOCK.findall(text))
    if "--8<--" not in block
]


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].split()) <= 900


def test_the_readme_shows_the_example_of_an_optimizer():
    assert (ROOT / "docs/examples/diagonal.py").read_text(encoding="utf-8") in BLOCK.findall(TEXTS["README.md"])


@pytest.mark.parametrize("block", PYTHON)
def test_code_runs(block, tmp_path, monkeypatch):
    """As it stands, where the results lie; it may take ``batches`` for granted."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(block, {"__name__": "block", "batches": [(torch.rand(8, 64), torch.arange(8)) for _ in range(3)]})


def test_the_training_loop_of_the_readme_has_six_lines_and_learns():
    (block,) = (block for block in BLOCK.findall(TEXTS["README.md"]) if "record(" in block)
    _, loop = block.split("\n\n")
    batch = (torch.rand(8, 64, generator=torch.Generator().manual_seed(0)), torch.arange(8))
    scope = {"batches": [batch] * 30}
    exec(block, scope)
    first = optimizers.FCNN((64, 32, 10), "sigmoid", seed=0).record(optimizers.CROSS_ENTROPY, *batch)
    losses = [optimizers.CROSS_ENTROPY.value(tape.logits, tape.labels).mean() for tape in (first, scope["tape"])]
    assert len(loop.splitlines()) <= 6
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", TEXTS[name])
    for target in (link or source for link, source in targets):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.is_file(), target
        if anchor and "/api/" not in found.as_posix():  # those of the API are checked where the pages are built
            headings = re.findall(r"(?m)^#+ (.*)$", found.read_text(encoding="utf-8"))
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], target


def _commands(text):
    """Calls of ``kronbench`` in a text: in blocks of code and inline."""
    inline = re.findall(r"`(kronbench [^`]+)`", text)
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [found[0] for line in [*inline, *lines] if (found := re.search(r"kronbench .*|tox run -e compare.*", line))]


def test_commands_take_the_flags_that_the_documentation_shows():
    group, seen = typer.main.get_command(app), 0
    for name, text in TEXTS.items():
        if name == "CHANGELOG.md":
            continue
        for line in _commands(text):
            words = shlex.split(line, comments=True)
            words = ["compare", *words[4:]] if words[0] == "tox" else words[1:]
            if not words or words[0].startswith("-"):
                continue
            command = group.get_command(None, words[0])
            assert command is not None, f"{name}: {line}"
            known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
            given = {word for word in words[1:] if word.startswith("--")} - {"--help", "--"}
            assert given <= known, f"{name}: {line}"
            seen += 1
    assert seen > 30


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as ``tox run -e docs`` builds them."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_the_network(site):
    loads = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?https?:|<link\b[^>]*\bhref=\"?https?:[^>]*")
    for path in site.rglob("*.html"):
        assert not loads.search(path.read_text(encoding="utf-8")), path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", path.read_text(encoding="utf-8")), path


def test_every_public_name_is_in_the_api(site):
    api = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    shown = set(re.findall(r'id="[\w.]+\.(\w+)"', api))
    assert not {*optimizers.__all__, *optimizers.core.__all__} - shown


def test_pages_open_in_a_browser_without_a_network(site):
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium has no sandbox for root
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        page = browser.new_page()
        asked, faults = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        for name in ("index.html", "paper.html", "api/network.html"):
            page.goto((site / name).as_uri())
            page.wait_for_load_state("networkidle")
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), name
        browser.close()
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert faults == []
