"""Memory: what optimizers keep and form, what a fresh process takes, and the ImageNet-10 case under its budget."""

from benchmarks.common import FORMS, OPTIMIZERS, Figures, Shared, choices, harness, measured_in, problem, shared

SPECS = OPTIMIZERS + FORMS
NETS = {"64-64-32-16-10": (64, 64, 32, 16, 10), "64-512-512-10": (64, 512, 512, 10)}
BUDGET_BYTES = 11 * 10**9  # of the paper's GTX 1080 Ti


class State(Shared):
    """Bytes of tensors, counted one by one: exact, the same in every run."""

    params = (SPECS, tuple(NETS))
    param_names = ("optimizer", "network")

    def setup(self, spec: str, net: str) -> None:
        self.bytes = shared("state", [net, spec], lambda: {net: _count(sizes) for net, sizes in NETS.items()})

    @measured_in("bytes")
    def track_state(self, spec: str, net: str) -> int:
        return self.bytes["state"]

    @measured_in("bytes")
    def track_peak_state(self, spec: str, net: str) -> int:
        return self.bytes["peak"]

    @measured_in("bytes")
    def track_kept_by_each_step(self, spec: str, net: str) -> int:
        return self.bytes["kept"]


class Process(Shared):
    """The peak of a fresh process beyond what it held after its imports; the network of CIFAR-10, batch 100.

    On ``cuda`` the peak is that of the device.
    """

    params = (SPECS, ("cpu", "cuda"))
    param_names = ("optimizer", "device")

    def setup(self, spec: str, device: str) -> None:
        self.peak = shared(f"process {device}", [spec, "peak"], lambda: _in_processes(device))

    @measured_in("bytes")
    def track_peak(self, spec: str, device: str) -> int:
        return self.peak


class Prediction(Shared):
    """The same peak over the bytes that the formulas predict."""

    params = Process.params
    param_names = Process.param_names

    def setup(self, spec: str, device: str) -> None:
        figures = shared(f"process {device}", [spec], lambda: _in_processes(device))
        if "predicted" not in figures:
            raise NotImplementedError(f"no formula for {spec}")
        self.ratio = figures["peak"] / figures["predicted"]

    @measured_in("ratio")
    def track_measured_over_predicted(self, spec: str, device: str) -> float:
        return self.ratio


class ImageNet10(Shared):
    """150528-1024-...-10, batch 100, within the paper's 11 GB: 1 where that runs out of memory."""

    params = ((*SPECS, "kfac[inverse=auto]"),)
    param_names = ("optimizer",)

    def setup(self, spec: str) -> None:
        self.figures = _imagenet10(spec)

    @measured_in("0 or 1")
    def track_out_of_memory(self, spec: str) -> int:
        return self.figures["out_of_memory"]


class ImageNet10Step(Shared):
    """What a step takes where it fits, and what takes the place of one that does not: ``auto`` falls back."""

    params = ImageNet10.params
    param_names = ImageNet10.param_names

    def setup(self, spec: str) -> None:
        self.figures = _imagenet10(spec)
        if self.figures["out_of_memory"]:
            raise NotImplementedError(f"{spec} runs out of memory")

    @measured_in("bytes")
    def track_peak(self, spec: str) -> int:
        return self.figures["peak"]

    @measured_in("seconds")
    def track_seconds(self, spec: str) -> float:
        return self.figures["seconds"]


def _count(sizes: tuple[int, ...]) -> Figures:
    state, peak, kept = (harness("memory", name) for name in ("state_bytes", "peak_state_bytes", "kept_bytes"))
    measured_on = problem(network=sizes)
    usable, figures = choices(SPECS, measured_on)
    for choice in usable:
        step = measured_on.step(choice, seed=0)
        figures[choice.spec] = {"kept": kept(step), "peak": peak(step), "state": state(step.optimizer)}
    return figures


def _in_processes(device: str) -> Figures:
    sizes = harness("experiments", "NETWORKS")["cifar10"]
    return {spec: _in_process(spec, sizes, device) for spec in SPECS}


def _in_process(spec: str, sizes: tuple[int, ...], device: str, budget_bytes: int | None = None) -> Figures:
    measure, predict = harness("peak", "measure"), harness("footprint", "predict")
    try:
        measured = measure(spec, sizes, batch=100, device=device, budget_bytes=budget_bytes)
    except ValueError as error:  # no such optimizer in this commit, or no such device here
        return {"missing": str(error)}
    if measured.status == "failed":
        return {"failed": measured.reason}
    figures = {"out_of_memory": int(measured.status == "out of memory"), "peak": measured.peak_bytes}
    predicted = predict(spec, sizes, batch=100)
    return {
        **figures,
        "seconds": measured.step_seconds,
        **({"predicted": predicted.peak_bytes} if predicted else {}),
    }


def _imagenet10(spec: str) -> Figures:
    def measure() -> Figures:
        return {spec: _in_process(spec, harness("experiments", "NETWORKS")["imagenet10"], "auto", BUDGET_BYTES)}

    return shared(f"imagenet10 {spec}", [spec], measure)
