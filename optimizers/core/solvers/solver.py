"""A solver: a function from layers and their curvature to directions, with what others must know of it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optimizers.core.operators import Operator
from optimizers.core.ranges import Range
from optimizers.core.solvers.solution import Solution
from optimizers.core.tape import Layer


@dataclass(frozen=True)
class Solver:
    """A solver by name; call it like its function.

    function: takes L layers, their G^t (operators) and options by name; returns a :class:`Solution`. It never reads a
        number from the device: iterations, residual and status stay tensors.
    ranges: of the options that can be out of range.
    iterative: whether it iterates. It then has the options ``max_iter`` and ``tolerance``, its solutions have
        ``blocks``, and its cost depends on the iterations.
    """

    name: str
    function: Callable[..., Solution]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    iterative: bool = False

    def __call__(self, layers: Sequence[Layer], curvature: Sequence[Operator], **options: Any) -> Solution:
        """Solve.

        Raises:
            ValueError: for a G^t of another size than the layer's outputs.
        """
        for layer, G in zip(layers, curvature, strict=True):
            if G.size != layer.outputs:
                raise ValueError(f"a layer of {layer.outputs} outputs needs a curvature of that size, got {G.size}")
        return self.function(layers, curvature, **options)

    @property
    def options(self) -> dict[str, Any]:
        """The options that the function takes, with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}
