"""The page in a real browser: no error, no request to a network, controls that work, no fault of accessibility."""

import os
import re
import shutil
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest

from suites.harness.analysis.answer import COSTS
from suites.harness.analysis.experiment import collect
from suites.harness.records.facts import Gpu
from suites.harness.show.page import build
from tests.example_records import ENVIRONMENT, header, point, write

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
LOCAL = ("file:", "data:", "blob:", "http://127.0.0.1:")
SECTION = "published-digits-cross-entropy"
SHOWN = ("digits-cross-entropy", "figures-cpu/tune-cifar10-cross-entropy", "memory-imagenet10", "table2")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium has no sandbox for root
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page of published results, one of each kind, and of a run whose name is markup."""
    results = tmp_path_factory.mktemp("results")
    for name in SHOWN:
        shutil.copytree(ROOT / "results" / "published" / name, results / "published" / name)
    runs = results / "latest" / "hostile" / "runs"
    runs.mkdir(parents=True)
    old = ROOT / "results" / "published" / "cifar10-bounded" / "runs"  # without a digest, so that it may be edited
    recorded = next(old.glob("fisher+kfi*_seed0_*")).read_text()
    name = "<img src=x onerror=document.title='owned'><b>bold</b>"
    (runs / "run.jsonl").write_text(re.sub(r'"optimizer": "fisher[^"]*"', f'"optimizer": "{name}"', recorded))
    return _built(results)


def _built(results):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("suites.harness.show.page.draw_curves", lambda *curves, **looks: None)  # files that no page shows
        build(collect(results), results)
    return results


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The page of ten problems with long names, twelve methods, and two experiments of each."""
    results = tmp_path_factory.mktemp("many")
    methods = ("sgd", "torch.optim.Adam", "kfac", "kfra", "ea_cg", "ea_cg[gamma=0]", "pch1+kfi", "pch2+kfi")
    methods += ("fisher+ea_cg", "gauss_newton+ea_cg", "hf", "ekfac")
    machine = replace(ENVIRONMENT, gpu=Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=1, cuda=None, tf32=False))
    names = "digits", "fashion", "fashion-autoencoder", "mnist-autoencoder", "imagenet10"
    for name, criterion, epochs in product(names, ("bounded", "cross-entropy"), (1, 2)):
        for place, method in enumerate(methods):
            facts = {"optimizer": method, "epochs": epochs, "dataset": name, "criterion": criterion}
            points = [point(n, test_accuracy=n, gradient_equivalents=(100.0 + place) * n) for n in range(epochs + 1)]
            path = results / f"{name}-{criterion}-{epochs}" / "runs" / f"{place}.jsonl"
            write(path, header(machine, **facts), points, peak_state_bytes=place + 1)
    return _built(results)


@pytest.fixture(params=["disk", "loopback"])
def address(request, folder):
    if request.param == "disk":
        yield (folder / "site" / "index.html").as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/site/index.html"
        server.shutdown()


@pytest.fixture
def page(browser, folder):
    """A window on the page from disk."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.goto((folder / "site" / "index.html").as_uri())
    opened.locator(f".matrix a[href='#{SECTION}']").first.click()  # opens the part of this experiment
    yield opened
    context.close()


def _draw_everything(page):
    page.evaluate("async () => { for (const plot of document.querySelectorAll('.plot')) await draw(plot) }")


def _x_of(page, figure):
    return page.evaluate(f"document.getElementById('{SECTION}-figure-{figure}').data.at(-1).x")


def test_it_opens_without_an_error_or_a_network(browser, address):
    """Every figure drawn, from disk and from loopback; the policy lets its own files in."""
    context = browser.new_context()
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    _draw_everything(page)
    assert page.locator(".plot .main-svg").count() >= page.locator(".plot").count() > 10
    assert not said
    assert asked
    assert not [url for url in asked if not url.startswith(LOCAL)]
    assert page.title().startswith("kronbench")
    assert page.get_by_text("<b>bold</b>").count() > 0
    context.close()


def test_the_policy_keeps_the_network_out(page):
    """Else the test above could not fail."""
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'let through', error => error.message)")
    assert refused == "Failed to fetch"
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    page.wait_for_timeout(300)
    assert any("Content Security Policy" in text for text in said)


def test_a_part_opens_from_its_row_and_costs_switch(page):
    """Of the parts, that of the link alone; of the matrices, that of the chosen cost alone, by keys as well."""
    opened = [one.get_attribute("id") for one in page.locator("details.part[open]").all()]
    assert opened == [SECTION]
    assert page.locator(".matrix:visible").count() == 1
    page.locator("#cost-gradients").press("ArrowRight")
    assert page.locator("#matrix-seconds").is_visible()
    assert page.locator(".matrix:visible").count() == 1


def test_columns_sort_by_number_both_ways(page):
    table = page.locator(f"#table-{SECTION}")
    names = table.locator("tbody td:first-child")
    column = table.locator("th").all_inner_texts().index("train loss") + 1
    cells = table.locator(f"tbody td:nth-child({column})").all()
    medians = [float(cell.get_attribute("data-key")) for cell in cells]
    expected = [name for _, name in sorted(zip(medians, names.all_inner_texts(), strict=True))]
    assert expected != names.all_inner_texts()
    table.get_by_role("button", name="train loss").click()
    assert names.all_inner_texts() == expected
    button = table.get_by_role("button", name="optimizer memory")
    button.focus()
    page.keyboard.press("Enter")
    assert names.all_inner_texts()[0] == "SGD"  # 77 kB before 113 kB
    page.keyboard.press("Enter")
    assert names.all_inner_texts()[-1] == "SGD"
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_axes_switch_and_methods_hide(page):
    _draw_everything(page)
    section = page.locator(f"#{SECTION}")
    assert _x_of(page, 0)[:3] == [0, 1, 2]
    section.get_by_role("button", name="gradient-equivalents", exact=True).click()
    page.wait_for_function(f"document.getElementById('{SECTION}-figure-0').data.at(-1).x[1] > 2")
    count = f"document.getElementById('{SECTION}-figure-1').data.length"
    before = page.evaluate(count)
    button = section.locator("[data-method='KFRA']")
    button.press(" ")
    page.wait_for_function(f"{count} === {before - 3}")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    page.wait_for_function(f"{count} === {before}")


def test_tables_are_copied_as_latex(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(f"[data-table='{SECTION}'][data-form=tex]").click()
    page.wait_for_selector("text=LaTeX copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("% \\usepackage{booktabs}")
    assert "EA-CG, PCH-1" in copied


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_is_accessible(browser, folder, scheme, width):
    """axe finds nothing serious, and nothing is wider than the window."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto((folder / "site" / "index.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    _draw_everything(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    faults = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    bad = [fault for fault in faults if fault["impact"] in ("serious", "critical")]
    assert not [(fault["id"], [node["html"][:200] for node in fault["nodes"]][:3]) for fault in bad]
    context.close()


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_ten_problems_fit_one_screen(browser, many, width, height):
    """From the title to the last row, in every cost, and nothing is wider than the window."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto((many / "site" / "index.html").as_uri())
    assert page.locator(".matrix:visible tbody tr:visible").count() == 10
    for cost in COSTS:
        page.locator(f"#cost-{cost}").focus()
        page.keyboard.press(" ")
        box = page.locator(f"#matrix-{cost} table").first.bounding_box()
        assert box["y"] + box["height"] <= height
        assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.scrollHeight") < 6000
    context.close()
