"""Memory: state and peak of optimizers, the peak of a fresh process, and the ImageNet-10 case under its budget."""

from typing import Any

from benchmarks import common

SPECS = common.OPTIMIZERS + common.FORMS
NETS = {"64-64-32-16-10": (64, 64, 32, 16, 10), "64-256-256-10": (64, 256, 256, 10)}
BUDGET_BYTES = 11 * 10**9  # of the paper's GTX 1080 Ti


class State(common.Shared):
    """Bytes of tensors, counted one by one: the same in every run."""

    params = (SPECS, tuple(NETS))
    param_names = ("optimizer", "network")

    def setup(self, spec: str, net: str) -> None:
        self.bytes = common.shared("state", [net, spec], lambda: {net: _count(sizes) for net, sizes in NETS.items()})

    @common.measured_in("bytes")
    def track_state(self, spec: str, net: str) -> int:
        return self.bytes["state"]

    @common.measured_in("bytes")
    def track_peak_state(self, spec: str, net: str) -> int:
        return self.bytes["peak"]

    @common.measured_in("bytes")
    def track_kept(self, spec: str, net: str) -> int:
        return self.bytes["kept"]


class Process(common.Shared):
    """The peak of a fresh process above its size after imports; the network of CIFAR-10, batch 100."""

    params = (SPECS,)
    param_names = ("optimizer",)

    def setup(self, spec: str) -> None:
        self.peak = common.shared("process cpu", [spec, "fits", "peak"], lambda: _in_processes("cpu"))

    @common.measured_in("bytes")
    def track_peak(self, spec: str) -> int:
        return self.peak


class Device(common.Shared):
    """The peak of the GPU's allocator in the same steps."""

    params = (SPECS,)
    param_names = ("optimizer",)

    def setup(self, spec: str) -> None:
        self.peak = common.shared("process cuda", [spec, "fits", "peak"], lambda: _in_processes("cuda"))

    @common.measured_in("bytes")
    def track_peak(self, spec: str) -> int:
        return self.peak


class ImageNet10(common.Shared):
    """150528-1024-...-10, batch 100, budget 11 GB as in the paper: 1 if a step runs out of memory."""

    params = ((*SPECS, "kfac[inverse=auto]"),)
    param_names = ("optimizer",)

    def setup(self, spec: str) -> None:
        self.out_of_memory = _imagenet10(spec, "out_of_memory")

    @common.measured_in("0 or 1")
    def track_out_of_memory(self, spec: str) -> int:
        return self.out_of_memory


class ImageNet10Step(common.Shared):
    """A step of the forms that fit, and of ``auto``, which falls back to one."""

    params = ImageNet10.params
    param_names = ImageNet10.param_names

    def setup(self, spec: str) -> None:
        self.figures = _imagenet10(spec, "fits")

    @common.measured_in("bytes")
    def track_peak(self, spec: str) -> int:
        return self.figures["peak"]

    @common.measured_in("seconds")
    def track_seconds(self, spec: str) -> float:
        return self.figures["seconds"]


class Prediction(common.Shared):
    """The measured peak of the ImageNet-10 case over the predicted one."""

    params = ImageNet10.params
    param_names = ImageNet10.param_names

    def setup(self, spec: str) -> None:
        self.ratio = _imagenet10(spec, "ratio")

    @common.measured_in("ratio")
    def track_measured_over_predicted(self, spec: str) -> float:
        return self.ratio


def _count(sizes: tuple[int, ...]) -> common.Figures:
    names = ("state_bytes", "peak_state_bytes", "kept_bytes")
    state, peak, kept = (common.harness("measure.live_bytes", name) for name in names)
    measured_on = common.task(network=sizes)
    usable, figures = common.choices(SPECS, measured_on)
    for choice in usable:
        step = measured_on.step(choice, seed=0)
        figures[choice.spec] = {"peak": peak(step), "state": state(step.optimizer), "kept": kept(step)}
    return figures


def _in_processes(device: str) -> common.Figures:
    return {spec: _in_process(spec, "cifar10", device) for spec in SPECS}


def _imagenet10(spec: str, figure: str) -> Any:
    return common.shared(f"imagenet10 {spec}", [figure], lambda: _in_process(spec, "imagenet10", "auto", BUDGET_BYTES))


def _in_process(spec: str, net: str, device: str, budget_bytes: int | None = None) -> common.Figures:
    """``out_of_memory``; if it fits, peak and seconds in ``fits``, and ``ratio``, measured over predicted."""
    common.leave_out_of_quick()
    measure, predict = common.harness("memory.peak", "measure"), common.harness("memory.footprint", "predict")
    sizes = common.network(net)
    try:
        device = common.harness("training.experiment", "resolve_device")(device)
        measured = measure(spec, sizes, batch=100, device=device, budget_bytes=budget_bytes)
    except ValueError as error:  # the commit lacks the optimizer, or the machine lacks the device
        return {"missing": str(error)}
    if measured.status == "failed":
        return {"failed": measured.reason}
    if measured.status == "out of memory":
        return {"out_of_memory": 1}
    figures = {"out_of_memory": 0, "fits": {"peak": measured.peak_bytes, "seconds": measured.step_seconds}}
    predicted = predict(spec, sizes, batch=100, device=device, budget_bytes=budget_bytes)  # None: no formula
    return {**figures, "ratio": measured.peak_bytes / predicted.peak_bytes} if predicted else figures
