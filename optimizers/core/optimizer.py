"""Optimizers that step from a tape: the base of all, and the composition of a curvature with a solver."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from optimizers.core.criteria import Criterion
from optimizers.core.curvature import Curvature, require_convex
from optimizers.core.ranges import POSITIVE, Range, check
from optimizers.core.solvers.solution import Solution
from optimizers.core.solvers.solver import Solver
from optimizers.core.space import Span
from optimizers.core.tape import Tape
from optimizers.core.update import PLAIN, Update

Params = Iterable[Tensor] | Iterable[dict[str, Any]]


class TapeOptimizer(torch.optim.Optimizer):
    """A ``torch.optim.Optimizer`` whose ``step`` takes a tape in place of ``param.grad``.

    Everything else is as in PyTorch: parameter groups, ``state_dict``, ``torch.optim.lr_scheduler``, checkpoints.

    ``ranges``: of the hyper-parameters; checked at construction, and in each group that is added.
    ``space``: where ``kronbench tune`` searches them.

    ``waits``: whether a step waits for the device, because it reads numbers from it. Such a step cannot be captured in
    a CUDA graph.

    ``on_phase`` is for measuring: it is called with ``curvature``, ``solve`` or ``update`` when that part of a step
    begins. What comes before the first call counts as ``update``.
    """

    ranges: Mapping[str, Range] = MappingProxyType({"lr": POSITIVE})
    space: Mapping[str, Span] = MappingProxyType({"lr": Span(1e-3, 10)})
    waits: bool = False
    on_phase: Callable[[str], None] = staticmethod(lambda phase: None)

    def step(self, tape: Tape) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that is both on the tape and in ``param_groups``."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in PyTorch; its own hyper-parameters are checked as the constructor's are.

        With ``capturable`` the learning rate becomes a tensor on the device of the parameters, so that a step that was
        captured in a CUDA graph follows a scheduler.
        """
        check(self.ranges, {**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group.get("capturable") and not isinstance(group["lr"], Tensor):
            group["lr"] = group["params"][0].new_tensor(group["lr"])


class SecondOrder(TapeOptimizer):
    """A curvature composed with a solver: theta <- theta + lr d, where the solver finds d from G and the gradient.

    An update rule may take the place of theta + lr d.

    After each step ``solutions`` holds one :class:`Solution` for each parameter group, which says how the solves went.
    Its directions are gone: they would be held until the next step.

    A subclass chooses the parts and must leave ``step`` as it is: the formulas of memory take the step from its parts.
    An optimizer with another step derives from :class:`TapeOptimizer`.

    Args:
        params: parameters of an ``FCNN``, or groups of them; a layer is solved with the options of its group.
        lr: learning rate, above 0.
        curvature: for example ``CURVATURES["pch1"]``.
        solver: for example ``SOLVERS["kfi"]``.
        update: how directions become a step.
        period: the number of steps after which their work repeats, apart from the iterations of CG.
        criterion: the training criterion. One that does not suit the curvature is refused at once.
        capturable: keep the learning rate on the device, for steps captured in a CUDA graph; None if no step can be.
        settings: hyper-parameters of the other parts, kept in ``param_groups`` where schedulers can reach them.
        options: those of the solver, likewise.

    Raises:
        ValueError: for a hyper-parameter out of range, or Gauss-Newton with a criterion that is not convex.
    """

    space = MappingProxyType({"lr": Span(2e-3, 5), "damping": Span(1e-4, 0.3)})

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "step" in vars(cls):
            raise TypeError(f"{cls.__name__} has a step of its own: derive it from TapeOptimizer, not from SecondOrder")

    def __init__(
        self,
        params: Params,
        *,
        lr: float,
        curvature: Curvature,
        solver: Solver,
        update: Update = PLAIN,
        period: int = 1,
        criterion: Criterion | None = None,
        capturable: bool | None = False,
        settings: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        self.ranges = {**self.ranges, **solver.ranges}
        check(self.ranges, {"lr": lr, **options, **settings})
        if criterion is not None and curvature.needs_convex:
            require_convex(criterion)
        self.curvature = curvature
        self.solver = solver
        self.update = update
        self.period = period
        self.solutions: list[Solution] = []
        self._options = tuple(options)
        claimed = {} if capturable is None else {"capturable": capturable}
        super().__init__(params, {"lr": lr, **claimed, **options, **settings})

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and ``copy.deepcopy``; torch's own keeps its fields only."""
        own = ("curvature", "solver", "update", "period", "ranges", "solutions", "_options")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    @torch.no_grad()
    def step(self, tape: Tape) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Curvature, solve, update."""
        self.solutions = []
        self.on_phase("curvature")
        factors = self.curvature(tape)
        position = {param: t for t, layer in enumerate(tape.layers) for param in (layer.weight, layer.bias)}
        for group in self.param_groups:
            moving = {param for param in group["params"] if param in position and param.requires_grad}
            if not moving:
                continue
            chosen = sorted({position[param] for param in moving})
            layers = [tape.layers[index] for index in chosen]
            options = {name: group[name] for name in self._options}
            self.on_phase("solve")
            solution = self.solver(layers, [factors[index] for index in chosen], **options)
            self.on_phase("update")
            found = zip(layers, solution.weights, solution.biases, strict=True)
            directions = {p: d for layer, *both in found for p, d in zip((layer.weight, layer.bias), both, strict=True)}
            self.update(tape, group, {p: d for p, d in directions.items() if p in moving}, self.state)
            self.solutions.append(replace(solution, weights=[], biases=[]))
