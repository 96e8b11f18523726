"""The house: imports run one way, and the algorithms under test do no I/O, keep no clock and touch no global state."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["optimizers.core", "optimizers", "suites", "benchmarks"]  # a package may import itself and those before it
MODULES = sorted(path for package in ("optimizers", "suites", "benchmarks") for path in (ROOT / package).rglob("*.py"))
ALGORITHMS = [path for path in MODULES if path.is_relative_to(ROOT / "optimizers")]
CORE = [path for path in ALGORITHMS if path.is_relative_to(ROOT / "optimizers" / "core")]

OUTSIDE = {
    "datetime",
    "io",
    "json",
    "logging",
    "os",
    "pathlib",
    "pickle",
    "random",
    "shutil",
    "sys",
    "tempfile",
    "time",
}
EFFECTS = {"exec", "eval", "input", "open", "print"}
TORCH_EFFECTS = {"load", "manual_seed", "save", "seed", "set_default_dtype", "set_num_threads"}


def _id(path):
    return str(path.relative_to(ROOT))


def _name(path):
    """The dotted name of a module, and of a package for its ``__init__.py``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(source, module, is_package=False):
    """Full dotted names of what a module imports, wherever in it; ``from a import b`` counts as ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package else -1]
            above = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def _rank(name):
    """The place in ORDER of the package that a dotted name belongs to; None outside the house."""
    return next((rank for rank, package in enumerate(ORDER) if f"{name}.".startswith(f"{package}.")), None)


def _imports_against_the_order(source, module, is_package=False):
    own = _rank(module)
    found = _imports(source, module, is_package)
    upwards = {name for name in found if (rank := _rank(name)) is not None and rank > own}
    return upwards | {name for name in found if f"{name}.".startswith("tests.")}


def _effects(source, module):
    """What a module imports or calls to reach outside: files, the clock, the console, torch's global state."""
    found = {name for name in _imports(source, module) if name.split(".")[0] in OUTSIDE}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        if call in EFFECTS or (call.startswith("torch.") and call.removeprefix("torch.") in TORCH_EFFECTS):
            found.add(call)
    return found


def test_the_house_was_found():
    """The tests below look at something."""
    assert len(CORE) >= 7
    assert len(ALGORITHMS) >= len(CORE) + 5


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_imports_run_one_way(path):
    """benchmarks -> suites -> optimizers -> optimizers.core, and nothing imports the tests."""
    found = _imports_against_the_order(path.read_text(encoding="utf-8"), _name(path), path.name == "__init__.py")
    assert not found


@pytest.mark.parametrize("path", ALGORITHMS, ids=_id)
def test_algorithms_have_no_effects(path):
    """optimizers/: no I/O, no clock, no global state."""
    assert not _effects(path.read_text(encoding="utf-8"), _name(path))


@pytest.mark.parametrize("path", ALGORITHMS, ids=_id)
def test_modules_say_what_they_are(path):
    """Every module of optimizers/ opens with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("optimizers.core.tape", "from optimizers import SGD"),
        ("optimizers.core.tape", "from ..sgd import SGD"),
        ("optimizers.core.tape", "def f():\n    import optimizers.sgd"),
        ("optimizers.sgd", "import suites.harness.measure.clock"),
        ("suites.harness.training.runner", "from benchmarks import common"),
        ("suites.harness.training.runner", "from tests.conftest import Problem"),
    ],
)
def test_imports_against_the_order_are_seen(module, source):
    """The check itself, on imports that go the wrong way."""
    assert _imports_against_the_order(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("optimizers.core.tape", "from optimizers.core.criteria import Criterion"),
        ("optimizers.core.tape", "from .criteria import Criterion\nfrom . import cg"),
        ("optimizers.sgd", "from optimizers.core import Tape\nfrom .core import Tape\nimport torch"),
        ("suites.harness.training.runner", "from optimizers import SGD\nfrom suites.harness import clock"),
        ("benchmarks.time", "from suites.harness import clock\nimport optimizers.core"),
    ],
)
def test_imports_along_the_order_pass(module, source):
    """The check itself, on imports that go the right way."""
    assert not _imports_against_the_order(source, module)


@pytest.mark.parametrize(
    "source",
    ["import time", "from os import path", "import json as j", "open('x')", "print(1)", "torch.manual_seed(0)"],
)
def test_effects_are_seen(source):
    """The check itself."""
    assert _effects(source, "optimizers.sgd")
    assert not _effects("generator = torch.Generator().manual_seed(0)", "optimizers.sgd")
