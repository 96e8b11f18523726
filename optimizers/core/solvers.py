"""Solvers by name: layers of a tape, their G^t and options to a :class:`Solution`.

No solver asks the device for a number: iterations, residual and status stay tensors until somebody reads them.
"""

from collections.abc import Callable

from optimizers.core.ea_cg import ea_cg
from optimizers.core.kfi import kfi
from optimizers.core.solution import Solution

SOLVERS: dict[str, Callable[..., Solution]] = {"kfi": kfi, "ea_cg": ea_cg}
