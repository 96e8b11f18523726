"""The cost of a run's steps by phase, in seconds and operations, and how their solves went."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optimizers.core import SecondOrder, Status
from suites.harness.measure.clock import PhaseClock
from suites.harness.measure.operations import StepCost, iterations_run
from suites.harness.measure.step import Step
from suites.harness.records.conventions import PHASES
from suites.harness.records.facts import Phase, SolverHealth


class StepLog:
    """Logs every step. The numbers stay on the device until :meth:`close`, which is called off the clock.

    Args:
        step: the step to watch.
        cost: of its steps, from :func:`suites.harness.measure.operations.probe`.
        total: the counts so far, in a run that is resumed.
    """

    def __init__(
        self, step: Step, cost: StepCost, device: torch.device | str, total: Mapping[str, float] | None = None
    ) -> None:
        self._cost = cost
        self._clock = PhaseClock(device)
        self._optimizer = step.optimizer if isinstance(step.optimizer, SecondOrder) else None
        self._solves: list[list[tuple[Tensor, Tensor, Tensor]]] = []  # of each step, one for each group
        self._pis: list[Tensor] = []  # of each step, of all layers
        self._step, self._seen = step, Counter(step.passes)
        self._passes: list[Counter[str]] = []  # of each step
        self.total: Counter[str] = Counter(total or {})
        step.watch(self._clock.mark)

    def watch(self) -> None:
        """Log a step; call it after each."""
        self._passes.append(self._step.passes - self._seen)
        self._seen = Counter(self._step.passes)
        if self._optimizer is not None:
            # clones, since each replay of a captured step overwrites the tensors
            self._solves.append(
                [(s.iterations.clone(), s.residual.clone(), s.status.clone()) for s in self._optimizer.solutions]
            )
            pis = [solution.pi for solution in self._optimizer.solutions if solution.pi is not None]
            if pis:
                self._pis.append(torch.cat(pis))

    def close(self) -> dict[str, Any]:
        """The values for a measuring point; ``phases`` and ``solver`` cover the steps since the last call.

        ``phases`` has the mean and p99 over steps of the seconds and operations of each phase. ``forwards``,
        ``backwards``, ``cg_iterations``, ``factorizations`` and ``gradient_equivalents`` are counted from the start.
        """
        # by group: iterations, residual and status, each [steps, L, 2]
        solves = [
            [torch.stack(column) for column in zip(*group, strict=True)] for group in zip(*self._solves, strict=True)
        ]
        ran = []
        if self._optimizer is not None and solves:
            pairs = zip(self._optimizer.param_groups, self._optimizer.solutions, strict=True)
            for (group, solution), (iterations, _, _) in zip(pairs, solves, strict=True):
                if self._optimizer.solver.iterative:
                    ran.append(iterations_run(solution, iterations, group["max_iter"]).tolist())
        of_steps = zip(*ran, strict=True) if ran else [()] * len(self._passes)
        steps = list(map(self._cost.of, of_steps, self._passes))
        for counts in steps:
            self.total.update(counts)
        self.total["cg_iterations"] += sum(of_step[0] for of_group in ran for of_step in of_group)
        health = _health(solves) if solves else None
        if health and self._pis:
            health = replace(health, pi=_rounded(torch.stack(self._pis).mean(0)))
        self._solves, self._pis, self._passes = [], [], []
        counted = ("forwards", "backwards", "cg_iterations", "factorizations")
        return {
            "phases": _by_phase(self._clock.drain(), steps),
            **{name: round(self.total[name]) for name in counted},  # a mean over steps need not be whole
            "gradient_equivalents": self._cost.gradient_equivalents(self.total),
            "solver": health,
        }


def _by_phase(seconds: dict[str, list[float]], steps: Sequence[Counter[str]]) -> dict[str, Phase]:
    return {
        phase: Phase(
            **_mean_and_p99("seconds", seconds.get(phase, [0.0])),
            **_mean_and_p99("operations", [counts[phase] for counts in steps]),
        )
        for phase in PHASES
        if phase in seconds or any(counts[phase] for counts in steps)
    }


def _mean_and_p99(unit: str, values: Sequence[float]) -> dict[str, float]:
    mean, p99 = np.mean(values), np.percentile(values, 99)
    return {f"{unit}_mean": float(f"{mean:.6g}"), f"{unit}_p99": float(f"{p99:.6g}")}


def _health(solves: Sequence[Sequence[Tensor]]) -> SolverHealth:
    """One number for each step, over all layers, weights and biases."""
    iterations, residual, status = (
        torch.cat([of_group.flatten(1) for of_group in column], dim=1) for column in zip(*solves, strict=True)
    )
    return SolverHealth(
        iterations_mean=_rounded(iterations.double().mean(1)),
        iterations_max=tuple(iterations.amax(1).tolist()),
        residual_max=_rounded(residual.amax(1)),
        **{name: tuple((status == value).sum(1).tolist()) for name, value in _TROUBLES.items()},
    )


# the statuses that a record counts, by the name of its field
_TROUBLES = {
    "failed_factorizations": Status.FAILED_FACTORIZATION,
    "negative_curvature": Status.NEGATIVE_CURVATURE,
    "not_finite": Status.NOT_FINITE,
    "ill_conditioned": Status.ILL_CONDITIONED,
}


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in values.tolist())
