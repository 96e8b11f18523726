"""Memory peaks: a few whole training steps in a fresh process, under a budget that is enforced.

Peak and budget count from the memory that the process holds after its imports and a small step. On a CPU the peak is
that of resident memory, and the budget limits the data of the process (``RLIMIT_DATA``). On CUDA both are those of
torch's allocator. An allocation beyond the budget fails, as on a machine of that size.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import torch
from torch import Tensor

from optimizers.core import CRITERIA, FCNN
from optimizers.core.solvers.inverses import is_out_of_memory
from suites.harness.measure.clock import Stopwatch
from suites.harness.measure.limits import SHARE, available_bytes, limit_data
from suites.harness.measure.step import Step
from suites.harness.memory.formulas import PREDICTED, USUAL, Kind
from suites.harness.names import pick
from suites.harness.records.beside import PeakMeasured
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import DTYPES, resolve_device

_ROOT = Path(__file__).resolve().parents[3]
_STATUS = Path("/proc/self/status")
# else glibc keeps freed blocks of up to 32 MB, and the peak counts these holes too, some 5 %
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
WARM_UP = ((512, 512, 10), 256)  # large enough for the BLAS to make its buffers before the measurement
SMALLEST_BYTES = 32 * 10**6
"""Below this size a peak says little: it is known to some 3 MB, since memory that the warm-up freed is taken again
unseen, and libraries keep buffers."""
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def measure(
    spec: str,
    sizes: tuple[int, ...],
    batch: int,
    dtype: str = "float32",
    device: str = "auto",
    budget_bytes: int | None = None,
    steps: int = 3,
    kind: Kind = USUAL,
) -> PeakMeasured:
    """Take ``steps`` whole steps (2 or more) on noise in a fresh process; running out of memory is a result.

    Args:
        spec: an optimizer as :func:`suites.harness.training.catalog.choose` reads it.
        sizes: of the network, inputs first.
        budget_bytes: on a CPU at most 90 % of the available memory, which is the default; on CUDA the default is the
            whole device.
        kind: criterion and activation of the network.

    Raises:
        ValueError: one line, for an invalid specification, sizes, dtype, device or budget.
    """
    device = check(spec, sizes, batch, dtype, device, kind)
    if steps < 2:
        raise ValueError(f"steps must be 2 or more, the first is not timed, got {steps}")
    if budget_bytes is not None and budget_bytes < 1:
        raise ValueError(f"budget must be above 0 bytes, got {budget_bytes}")
    if device == "cpu":
        budget_bytes = min(budget_bytes or sys.maxsize, int(SHARE * available_bytes()))
    request = {"spec": spec, "sizes": sizes, "batch": batch, "dtype": dtype, "device": device, "steps": steps}
    request |= {"budget_bytes": budget_bytes, "folder": os.getcwd(), "kind": vars(kind)}
    child = subprocess.run(
        [sys.executable, "-m", "suites.harness.memory.peak", json.dumps(request)],
        cwd=_ROOT,  # so that it imports this very harness
        env={**os.environ, **_ALLOCATOR},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        how = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
        lines = child.stderr.strip().splitlines()
        return PeakMeasured(
            "failed", budget_bytes=budget_bytes, reason=f"{how}: {lines[-1] if lines else 'no message'}"
        )
    return msgspec.json.decode(child.stdout.splitlines()[-1], type=PeakMeasured)


def check(spec: str, sizes: tuple[int, ...], batch: int, dtype: str, device: str, kind: Kind = USUAL) -> str:
    """Refuse an invalid case; returns the device, with ``auto`` resolved."""
    pick("dtype", dtype, DTYPES)
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"network must be two or more sizes of at least 1, got {list(sizes)}")
    if batch < 1:
        raise ValueError(f"batch size must be 1 or more, got {batch}")
    criterion = pick("criterion", kind.criterion, {name: CRITERIA[name] for name in PREDICTED})
    choose(spec).build(FCNN((1,) * len(sizes), kind.activation), criterion)
    device = resolve_device(device)
    if device == "cpu" and not _STATUS.exists():
        raise ValueError("memory on a CPU is measured by Linux's /proc, which is missing here")
    return device


class ProcessMemory:
    """The peak of this process and its limit, both above the memory that it holds now."""

    def __init__(self, device: str, budget_bytes: int | None) -> None:
        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            if budget_bytes is not None:
                total = torch.cuda.get_device_properties(torch.device(device)).total_memory
                torch.cuda.set_per_process_memory_fraction(min(1.0, (self._before + budget_bytes) / total))
            return
        with suppress(OSError):  # if this is not allowed, a peak below that of the imports is not seen
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        held = psutil.Process().memory_info()
        self._before = held.rss
        if budget_bytes is not None:
            limit_data(held.data + budget_bytes)

    def peak_bytes(self) -> int:
        now = torch.cuda.max_memory_allocated() if self._cuda else _peak_of_this_process()
        return max(0, now - self._before)


def _peak_of_this_process() -> int:
    """Bytes. ``clear_refs`` resets this peak, and not that of ``getrusage``."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None, "Linux tells the peak of every process"
    return 1024 * int(found[1])


def noise_step(
    spec: str,
    sizes: tuple[int, ...],
    batch: int,
    dtype: str = "float32",
    device: str = "cpu",
    kind: Kind = USUAL,
) -> Step:
    """A step on noise, with a new batch each time. Target vectors as wide as the inputs are the inputs."""
    generator, criterion = torch.Generator(device).manual_seed(0), CRITERIA[kind.criterion]

    def noise(width: int) -> Tensor:
        return torch.rand(batch, width, generator=generator, dtype=DTYPES[dtype], device=device)

    def targets() -> Tensor:
        if criterion.vectors:
            return noise(sizes[-1])
        return torch.randint(sizes[-1], (batch,), generator=generator, device=device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            pair = [noise(sizes[0])]
            pair.append(pair[0] if criterion.vectors and sizes[0] == sizes[-1] else targets())
            yield pair.pop(0), pair.pop()  # this generator keeps no reference to the batch

    network = FCNN(sizes, kind.activation, device=device, dtype=DTYPES[dtype])
    return Step(network, choose(spec).build(network, criterion), criterion, batches())


def _measure_here(
    spec: str,
    sizes: list[int],
    batch: int,
    dtype: str,
    device: str,
    steps: int,
    budget_bytes: int | None,
    kind: dict[str, Any],
) -> PeakMeasured:
    """Measure in this process. Its limits are not lifted again."""
    noise_step(spec, *WARM_UP, dtype, device)()  # libraries start their threads and pools
    memory = ProcessMemory(device, budget_bytes)
    seconds: list[float] = []
    result = PeakMeasured("finished", budget_bytes=budget_bytes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            step = noise_step(spec, tuple(sizes), batch, dtype, device, Kind(**kind))
            for _ in range(steps):
                stopwatch = Stopwatch(device)
                with stopwatch:
                    step()
                seconds.append(stopwatch.seconds)
        except Exception as error:
            if is_out_of_memory(error):
                result = replace(result, status="out of memory", asked_bytes=asked_bytes(str(error)))
            else:
                result = replace(result, status="failed", reason=f"{type(error).__name__}: {error}")
    told = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return replace(
        result,
        peak_bytes=memory.peak_bytes(),
        step_seconds=statistics.median(seconds[1:]) if len(seconds) > 1 else None,
        fell_back=any("falling back to rank_one" in text for text in told),
        warnings=told,
    )


def asked_bytes(message: str) -> int | None:
    """The size of the allocation that torch refused, from its message; None if it is not in there."""
    found = re.search(r"tried to allocate ([\d.]+) (bytes|[KMGT]iB)", message, re.IGNORECASE)
    return int(float(found[1]) * _UNITS.get(found[2], 1)) if found else None


def _main() -> None:
    request = json.loads(sys.argv[1])
    os.chdir(request.pop("folder"))  # a specification may name a file
    print(msgspec.json.encode(_measure_here(**request)).decode())


if __name__ == "__main__":
    _main()
