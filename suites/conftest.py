"""The suites only measure, so they run only on demand: ``pytest suites --benchmark-only``, ``tox run -e bench``."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from suites.common import DEVICE
from suites.harness.measure.environment import describe

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Without ``--benchmark-json``, results go to a file named after this machine."""
    if config.option.benchmark_only and not config.option.benchmark_json:
        found = describe(DEVICE)
        machine = found.gpu.name if found.gpu else f"{found.cpu} {found.threads} threads"
        path = config.rootpath / "results" / "bench" / f"{re.sub(r'[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        config.option.benchmark_json = str(path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip benchmarks, unless they are asked for."""
    if not config.option.benchmark_only:
        for item in items:
            if item.path.is_relative_to(_HERE):
                item.add_marker(pytest.mark.skip(reason="it measures: pytest suites --benchmark-only"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    """Torch and its BLAS, threads, GPU and driver, and the commit."""
    machine_info["kronbench"] = asdict(describe(DEVICE))
