"""The house: imports run one way, and the algorithms under test do no I/O, keep no clock and touch no global state."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["optimizers.core", "optimizers", "suites", "benchmarks"]  # a package may import itself and those before it
ROOMS = [  # of the harness, likewise; names and units lie below all of them, the command line above
    "records",
    "data",
    "measure",
    "training",
    "analysis",
    "show",
    "memory",
    "tuning",
    "reproduce",
    "gate",
    "gpu",
    "commands",
]
FLOORS = [["names", "units"], *([room] for room in ROOMS), ["cli"]]
MOST_ROOMS, MOST_MODULES = 12, 10
HARNESS = Path(__file__).parents[1] / "suites" / "harness"
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


def _floor(name):
    """The place in FLOORS of a module of the harness; None for what is no part of it."""
    _, harness, name = f"{name}.".partition("suites.harness.")
    return next((n for n, floor in enumerate(FLOORS) if name.split(".")[0] in floor), None) if harness else None


def _imports_of_higher_rooms(source, module, is_package=False):
    own, found = _floor(module), _imports(source, module, is_package)
    return {name for name in found if own is not None and (floor := _floor(name)) is not None and floor > own}


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


def test_rooms_import_one_way():
    """Within the harness, each room imports from those before it alone."""
    found = {
        (_name(path), name)
        for path in MODULES
        for name in _imports_of_higher_rooms(path.read_text(encoding="utf-8"), _name(path), path.name == "__init__.py")
    }
    assert found == set(), "imports from a higher room"


def test_the_harness_finds_problems_and_problems_need_the_data_room_alone():
    """A problem is one file that nobody names."""
    found = {_name(path): _imports(path.read_text(encoding="utf-8"), _name(path)) for path in MODULES}
    named = {name: {one for one in own if f"{one}.".startswith("suites.problems.")} for name, own in found.items()}
    assert not {name for name, own in named.items() if own and not name.startswith("suites.problems.")}
    of_problems = set().union(*(own for name, own in found.items() if name.startswith("suites.problems.")))
    assert "suites.harness.data.problem.Problem" in of_problems
    below = ("suites.problems.", "suites.harness.data.", "suites.harness.names.", "suites.harness.units.")
    assert not {name for name in of_problems if name.startswith("suites.") and not name.startswith(below)}


def test_a_room_fits_in_a_head():
    """No room within a room, none above ten modules, and no module of the harness outside a room but three."""
    folders = {path for path in HARNESS.rglob("*") if path.is_dir() and list(path.glob("*.py"))}
    assert {path.name for path in folders} == set(ROOMS)
    assert {path.parent for path in folders} == {HARNESS}
    assert len(ROOMS) <= MOST_ROOMS
    assert {path.stem for path in HARNESS.glob("*.py")} == {"__init__", "names", "units", "cli"}
    too_large = {room for room in ROOMS if len(list((HARNESS / room).glob("[!_]*.py"))) > MOST_MODULES}
    assert too_large == set(), f"more than {MOST_MODULES} modules"


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
    ("module", "source"),
    [
        ("suites.harness.measure.timing", "from suites.harness.training.catalog import choose"),
        ("suites.harness.measure.timing", "from suites.harness.training import catalog"),
        ("suites.harness.measure.timing", "from ..training import catalog"),
        ("suites.harness.records.record", "def f():\n    import suites.harness.commands.compare"),
        ("suites.harness.units", "from suites.harness.records import record"),
        ("suites.harness.commands.gate", "from suites.harness.cli import app"),
    ],
)
def test_imports_of_higher_rooms_are_seen(module, source):
    """The check itself, and on the same import from the highest room."""
    assert _imports_of_higher_rooms(source, module)
    assert not _imports_of_higher_rooms(source, "suites.harness.cli")


@pytest.mark.parametrize(
    "source",
    ["import time", "from os import path", "import json as j", "open('x')", "print(1)", "torch.manual_seed(0)"],
)
def test_effects_are_seen(source):
    """The check itself."""
    assert _effects(source, "optimizers.sgd")
    assert not _effects("generator = torch.Generator().manual_seed(0)", "optimizers.sgd")
