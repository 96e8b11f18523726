"""Step time of every optimizer and every form of KFI: seconds, ratio to SGD, and seconds by phase."""

from benchmarks import common

SPECS = common.OPTIMIZERS + common.FORMS
CASES = {
    "digits, batch 32": ("digits", 32),
    "digits, batch 100": ("digits", 100),
    "digits, batch 500": ("digits", 500),
    "cifar10, batch 100": ("synthetic-cifar10", 100),
}


class Step(common.Shared):
    """Whole steps, every optimizer in turn in one process."""

    params = (SPECS, tuple(CASES))
    param_names = ("optimizer", "case")

    def setup(self, spec: str, case: str) -> None:
        self.seconds = common.shared(f"step {case}", [spec], lambda: _step_seconds(case))

    @common.measured_in("seconds")
    def track_seconds(self, spec: str, case: str) -> common.Figures:
        return common.samples(self.seconds["own"])

    @common.measured_in("ratio")
    def track_ratio_to_sgd(self, spec: str, case: str) -> common.Figures:
        return common.samples(self.seconds["own"], self.seconds["reference"])


class Phase(common.Shared):
    """The parts of a step: forward and backward, curvature, solve, update."""

    params = (common.PHASES, SPECS, ("digits, batch 100", "cifar10, batch 100"))
    param_names = ("phase", "optimizer", "case")

    def setup(self, phase: str, spec: str, case: str) -> None:
        self.seconds = common.shared(f"step {case}", [spec, "phases", phase], lambda: _step_seconds(case))

    @common.measured_in("seconds")
    def track_seconds(self, phase: str, spec: str, case: str) -> common.Figures:
        return common.samples(self.seconds)


def _step_seconds(case: str) -> common.Figures:
    dataset, batch_size = CASES[case]
    if dataset != "digits":
        common.leave_out_of_quick()
    measured_on = common.task(dataset, batch_size=batch_size)
    usable, figures = common.choices(SPECS, measured_on)
    at_most_seconds = 0.3 if common.quick() else 5.0 if dataset == "digits" else 20.0
    seconds = common.step_seconds(measured_on, usable, at_most_seconds)
    try:
        phases = common.phase_seconds(measured_on, usable, at_most_seconds)
    except NotImplementedError:  # whole steps can be timed without phases
        phases = {}
    for spec, own in seconds.items():
        figures[spec] = {"own": own, "reference": seconds[common.REFERENCE], "phases": phases.get(spec, {})}
    return figures
