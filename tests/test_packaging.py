"""For people who install and import it: the wheel, what an import loads, and the loop of six lines."""

import inspect
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest
import torch

import optimizers

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("optimizers", "suites"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, folder], check=True, cwd=source, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_what_it_needs_and_no_tests(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {f"suites/harness/show/{name}" for name in ("template.html", "page.css", "page.js", "page.py")} <= packed
    assert {"suites/problems/digits.py", "suites/problems/digits.toml"} <= packed
    assert {"optimizers/py.typed", "suites/harness/py.typed", "optimizers/core/solvers/kfi.py"} <= packed
    assert not [name for name in packed if Path(name).name.startswith(("test_", "conftest"))]


def test_the_wheel_runs_where_nothing_else_of_ours_is(wheel, tmp_path):
    """A fresh environment, which finds torch and the other dependencies in the present one."""
    pytest.importorskip("pip")
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {"PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    where = subprocess.run(
        [python, "-c", "import optimizers; print(optimizers.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert where.stdout.startswith(str(packages))
    flags = ["--epochs", "1", "--seeds", "1", "--optimizer", "ea_cg", "--output", tmp_path / "results"]
    done = subprocess.run(
        [home / "bin" / "kronbench", "compare", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "ea_cg" in done.stdout


def test_importing_the_optimizers_loads_torch_and_little_else():
    found = "import sys, optimizers; print({name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", found], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = eval(done.stdout)
    assert {"torch", "optimizers"} <= loaded
    unwanted = {"beartype", "matplotlib", "pandas", "plotly", "scipy", "sklearn", "suites", "torchvision"}
    assert not unwanted & loaded


def test_the_loop_of_six_lines_learns():
    """As it stands in the docstring of the package."""
    loop = textwrap.dedent(inspect.getdoc(optimizers).split("\n\n", 1)[1].rsplit("\n\n", 1)[0])
    assert len([line for line in loop.splitlines() if line.strip()]) == 6
    x, y = torch.rand(50, 64), torch.arange(50) % 10
    names = {"batches": [(x, y)] * 20}
    exec(loop, names)
    trained, fresh = (
        one.record(optimizers.CROSS_ENTROPY, x, y).loss for one in (names["network"], optimizers.FCNN((64, 32, 10)))
    )
    assert trained < fresh
