"""NVML: nothing is told without a GPU, and what a device gives is told in the units of its name."""

from contextlib import nullcontext
from types import SimpleNamespace

import pynvml
import pytest
import torch

from suites.harness.measure import nvml


def _refuses(*arguments):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def device(monkeypatch):
    """NVML's own functions replaced by those of a device that knows all but its temperature."""
    counter = iter([5_000, 8_000])  # millijoules
    answers = {
        "nvmlSystemGetDriverVersion": lambda: "550.1",
        "nvmlDeviceGetClockInfo": lambda gpu, kind: {pynvml.NVML_CLOCK_SM: 1400, pynvml.NVML_CLOCK_MEM: 2600}[kind],
        "nvmlDeviceGetTemperature": _refuses,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: (
            pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonGpuIdle
        ),
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=10),
        "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: next(counter),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.setattr(nvml, "_handle", lambda device: nullcontext("gpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)


def test_nothing_is_told_of_a_cpu():
    assert nvml.state("cpu") == {}
    assert nvml.energy_joules(lambda: None, "cpu") is None


def test_nothing_is_told_where_nvml_does_not_start(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlInit", _refuses)
    assert nvml.state("cuda") == {}
    assert nvml.energy_joules(lambda: None, "cuda") is None


@pytest.mark.usefixtures("device")
def test_a_figure_that_the_device_lacks_is_left_out():
    assert nvml.state("cuda") == {
        "driver": "550.1",
        "sm_clock_mhz": 1400,
        "memory_clock_mhz": 2600,
        "throttle_reasons": ["SwPowerCap"],
        "memory_used_bytes": 10,
    }


@pytest.mark.usefixtures("device")
def test_energy_is_that_of_a_step():
    steps = []
    joules = nvml.energy_joules(lambda: steps.append(1), "cuda", seconds=0.01)
    assert joules == pytest.approx(3.0 / len(steps))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_tells_its_driver():
    assert nvml.state("cuda")["driver"]
