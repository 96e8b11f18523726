"""The environment of a run: all that a reader needs to know of the machine and the software."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

import torch

from suites.harness.measure import nvml
from suites.harness.records.facts import Environment, Git, Gpu

_ROOT = Path(__file__).resolve().parents[3]


def describe(device: torch.device | str, packages: Mapping[str, str] = MappingProxyType({})) -> Environment:
    """Git commit, versions, processor and GPU, threads; None for what cannot be found out.

    Args:
        packages: versions of the packages that an optimizer comes from.
    """
    gpu = _gpu(torch.device(device))
    return replace(_fixed(), threads=torch.get_num_threads(), gpu=gpu, packages=dict(packages))


@cache
def _fixed() -> Environment:
    return Environment(
        git=_git(),
        kronbench=_version("kronbench"),
        python=platform.python_version(),
        torch=str(torch.__version__),
        blas=_blas(),
        platform=platform.system() + " " + platform.machine(),
        cpu=_cpu(),
        cores=os.cpu_count(),
        threads=None,
        gpu=None,
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _git() -> Git | None:
    """The commit of the checkout that the code runs from, and whether it has changes outside ``results``."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        commit = _output("git", "-C", str(_ROOT), "rev-parse", "HEAD")
        code = _output("git", "-C", str(_ROOT), "status", "--porcelain", "--", ".", ":!results")
        return Git(commit=commit, dirty=bool(code))
    except (OSError, subprocess.CalledProcessError):
        return None


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _blas() -> str | None:
    match = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    detail = re.search(r"- (Intel\(R\) oneAPI Math Kernel Library Version \S+|OpenBLAS \S+)", torch.__config__.show())
    return detail.group(1) if detail else match.group(1) if match else None


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor()


def _gpu(device: torch.device) -> Gpu | None:
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return Gpu(
        name=properties.name,
        memory_bytes=properties.total_memory,
        cuda=torch.version.cuda,
        tf32=bool(torch.backends.cuda.matmul.allow_tf32),
        **nvml.state(device),
    )
