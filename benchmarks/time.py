"""Step time of every optimizer and every form of KFI: seconds, ratio to SGD, and seconds by phase."""

from benchmarks.common import (
    FORMS,
    OPTIMIZERS,
    PHASES,
    REFERENCE,
    Figures,
    Shared,
    choices,
    measured_in,
    phase_seconds,
    quick,
    samples,
    shared,
    step_seconds,
    task,
)

SPECS = OPTIMIZERS + FORMS
CASES = {
    "digits, batch 32": ("digits", 32),
    "digits, batch 100": ("digits", 100),
    "digits, batch 500": ("digits", 500),
    "cifar10, batch 100": ("synthetic-cifar10", 100),
}


class Step(Shared):
    """Whole steps, every optimizer in turn in one process."""

    params = (SPECS, tuple(CASES))
    param_names = ("optimizer", "case")

    def setup(self, spec: str, case: str) -> None:
        self.seconds = shared(f"step {case}", [spec], lambda: _step_seconds(case))

    @measured_in("seconds")
    def track_seconds(self, spec: str, case: str) -> Figures:
        return samples(self.seconds["own"])

    @measured_in("ratio")
    def track_ratio_to_sgd(self, spec: str, case: str) -> Figures:
        return samples(self.seconds["own"], self.seconds["reference"])


class Phase(Shared):
    """The parts of a step: forward and backward, curvature, solve, update."""

    params = (PHASES, SPECS, ("digits, batch 100", "cifar10, batch 100"))
    param_names = ("phase", "optimizer", "case")

    def setup(self, phase: str, spec: str, case: str) -> None:
        self.seconds = shared(f"step {case}", [spec, "phases", phase], lambda: _step_seconds(case))

    @measured_in("seconds")
    def track_seconds(self, phase: str, spec: str, case: str) -> Figures:
        return samples(self.seconds)


def _step_seconds(case: str) -> Figures:
    dataset, batch_size = CASES[case]
    if quick() and dataset != "digits":
        raise NotImplementedError("left out of --quick")
    measured_on = task(dataset, batch_size=batch_size)
    usable, figures = choices(SPECS, measured_on)
    at_most_seconds = 0.3 if quick() else 5.0 if dataset == "digits" else 20.0
    seconds = step_seconds(measured_on, usable, at_most_seconds)
    try:
        phases = phase_seconds(measured_on, usable, at_most_seconds)
    except NotImplementedError:  # whole steps can be timed without phases
        phases = {}
    for spec, own in seconds.items():
        figures[spec] = {"own": own, "reference": seconds[REFERENCE], "phases": phases.get(spec, {})}
    return figures
