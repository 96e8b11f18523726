"""``kronbench report`` as a command: every folder of results gives a page, and the page is served with care."""

import errno
import shutil
import socket
import threading
from pathlib import Path

import pytest

from suites.harness.analysis.experiment import collect
from suites.harness.commands.report import site_server
from suites.harness.reproduce import table1, tables2to5_text
from suites.harness.reproduce.table1_growth import GROWTH_SCALES, read_growth
from suites.harness.reproduce.tables2to5_text import read_errors
from suites.harness.show.captions import caption
from suites.harness.show.comparison import comparison_table
from suites.harness.show.pictures import draw_growth
from suites.harness.show.table import markdown

RESULTS = Path(__file__).parents[1] / "results"
FOLDERS = sorted({p for f in RESULTS.rglob("*.jsonl") for p in f.parents if p.is_relative_to(RESULTS)})


@pytest.fixture
def no_pictures(monkeypatch):
    """Files beside the page that take most of the time."""
    monkeypatch.setattr("suites.harness.show.page.draw_curves", lambda *_, **__: None)


@pytest.mark.usefixtures("no_pictures")
def test_every_folder_with_records_gives_a_page(kronbench, tmp_path):
    assert len(FOLDERS) > 30
    runs = [folder for folder in FOLDERS if folder.name == "runs"]
    for folder in (*(one for one in FOLDERS if one not in runs), runs[0]):
        code, out, err = kronbench("report", folder, "--output", tmp_path)
        assert (code, err) == (0, ""), folder
        assert "runs of" in out
        assert "<h1>kronbench</h1>" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_pictures")
def test_a_folder_copied_elsewhere_gives_a_page(kronbench, tmp_path):
    shutil.copytree(RESULTS / "published" / "digits-bounded", tmp_path / "mine")
    assert kronbench("report", tmp_path / "mine")[0] == 0
    page = (tmp_path / "mine" / "site" / "index.html").read_text(encoding="utf-8")
    assert '<details id="mine" class="part">' in page


def test_a_folder_of_which_nothing_can_be_read_says_why(kronbench, tmp_path):
    """Each file with its reason; the first three of many."""
    assert "`kronbench compare` writes" in kronbench("report", tmp_path)[2]
    (tmp_path / "runs").mkdir()
    for number in range(5):
        path = tmp_path / "runs" / f"{number}.jsonl"
        path.write_text("{}\n")
        code, out, error = kronbench("report", tmp_path)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert f"nothing to report; not read: {tmp_path / 'runs' / '0.jsonl'}, line 1: " in error
        assert (str(path) in error) == (number < 3)
    assert error.endswith("; ...\n")


def test_a_picture_is_whole_or_not_there(monkeypatch, tmp_path):
    """A disk that is full in the middle of one leaves the one from before."""
    panels = {"dense": {"kfac": ([32, 64], [0.1, 0.3])}}
    before = {path: path.read_bytes() for path in draw_growth(panels, tmp_path / "growth", "before")}
    assert {path.name for path in before} == {"growth.png", "growth.svg"}

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        draw_growth(panels, tmp_path / "growth", "after")
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture
def ask(tmp_path):
    """Sends a request as it stands to a served site; gives the status and the body."""
    site = tmp_path / "site"
    (site / "pictures").mkdir(parents=True)
    (site / "index.html").write_text("the page")
    (site / "pictures" / "one.svg").write_text("a picture")
    (tmp_path / "secret.txt").write_text("secret")
    (site / "link.txt").symlink_to(tmp_path / "secret.txt")
    with site_server(site / "index.html") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def send(path, host="127.0.0.1:{port}", method="GET"):
            port = server.server_port
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                named = "" if host is None else f"Host: {host.format(port=port)}\r\n"
                connection.sendall(f"{method} {path} HTTP/1.0\r\n{named}\r\n".encode())
                head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
            return int(head.split()[1]), body.decode()

        yield send
        server.shutdown()


def test_the_site_is_served(ask):
    assert ask("/") == (200, "the page")
    assert ask("/pictures/one.svg", "localhost:{port}") == (200, "a picture")
    assert ask("/", method="HEAD") == (200, "")


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "//../secret.txt", "/link.txt", "/pictures/", "/nothing"]
)
def test_nothing_but_the_site_is_served(ask, path):
    """No file above it, none that a link leads to, no listing."""
    status, body = ask(path)
    assert status == 404
    assert "secret" not in body
    assert "one.svg" not in body


@pytest.mark.parametrize("host", [None, "", "127.0.0.1", "evil.example:{port}", "127.0.0.1:{port}.evil.example"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_host_name_is_refused(ask, host, method):
    assert ask("/", host, method)[0] == 403


@pytest.mark.parametrize("path", sorted((RESULTS / "published").glob("*/table.md")), ids=lambda path: path.parent.name)
def test_published_tables_come_out_of_their_records_as_they_stand(path):
    published = path.read_text(encoding="utf-8")
    if (path.parent / "runs").exists():
        (one,) = collect(path.parent).experiments
        table = comparison_table(one.records, one.step_seconds, one.target)
        text = f"{markdown(table)}\n\n{caption(one.records, one.target)}\n"
    elif path.parent.name == "table1":
        scale, record = GROWTH_SCALES["cpu"], read_growth(path.parent / "growth.jsonl")
        text = table1.summary(scale, table1.exponents(scale, record), record)
    elif (path.parent / "errors.jsonl").exists():
        record = read_errors(path.parent / "errors.jsonl")
        title = published.partition("\n")[0].removeprefix("# ")  # it needs the data set
        text = tables2to5_text.page(title, record.experiment.table, record)
        if not record.points[0].errors.get("bound"):  # an older page, which ends with the orders
            text = text.partition("\n\nErrors over")[0] + "\n"
    else:
        pytest.skip("memory.json has no reader but the page's")
    assert text == published
