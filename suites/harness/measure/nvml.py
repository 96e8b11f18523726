"""Values of a GPU from NVML: driver, clocks, temperature, throttling, memory, energy; none if there is no GPU.

A value that the device or its driver does not report is left out.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pynvml
import torch

_THROTTLE_PREFIX = "nvmlClocksThrottleReason"
_NO_REASON = ("All", "None", "GpuIdle")
_STEPS_UNWAITED = 10  # a wait after every short step would leave the device idle


def state(device: torch.device | str) -> dict[str, Any]:
    """The GPU now; names carry units. ``throttle_reasons`` are NVML's words, without idleness."""
    with _handle(device) as gpu:
        if gpu is None:
            return {}
        figures: dict[str, Callable[[], object]] = {
            "driver": pynvml.nvmlSystemGetDriverVersion,
            "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
            "temperature_celsius": lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            "throttle_reasons": lambda: _throttle_reasons(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
            "memory_used_bytes": lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used,
        }
        found = {}
        for name, figure in figures.items():
            with suppress(pynvml.NVMLError):
                found[name] = figure()
        return found


def energy_joules(step: Callable[[], object], device: torch.device | str, seconds: float = 1.0) -> float | None:
    """Energy of the whole GPU for one step, in joules: the mean over steps for some seconds. None without a counter.

    NVML's counter moves every 20 to 100 milliseconds, so less than a second tells little.
    """
    with _handle(device) as gpu, suppress(pynvml.NVMLError):
        if gpu is not None:
            torch.cuda.synchronize(device)
            before, started, steps = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu), time.perf_counter(), 0
            while time.perf_counter() < started + seconds:
                for _ in range(_STEPS_UNWAITED):
                    step()
                torch.cuda.synchronize(device)
                steps += _STEPS_UNWAITED
            return (pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) - before) / 1000 / steps
    return None


@contextmanager
def _handle(device: torch.device | str) -> Iterator[object]:
    """NVML's handle of a torch device, by its UUID, since CUDA_VISIBLE_DEVICES renumbers; None without NVML."""
    if torch.device(device).type != "cuda":
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        try:
            gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        except pynvml.NVMLError:  # a slice of a GPU: NVML has values of the whole GPU only
            gpu = None
        yield gpu
    finally:
        pynvml.nvmlShutdown()


def _throttle_reasons(bits: int) -> list[str]:
    names = (name for name in dir(pynvml) if name.startswith(_THROTTLE_PREFIX))
    reasons = {name.removeprefix(_THROTTLE_PREFIX): getattr(pynvml, name) for name in names}
    return sorted(name for name, bit in reasons.items() if name not in _NO_REASON and bits & bit)
