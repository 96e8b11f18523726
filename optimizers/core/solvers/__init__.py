"""Solvers by name. Each turns layers of a tape and their G^t into a :class:`Solution`."""

from optimizers.core.ranges import BELOW_1, BETWEEN_0_AND_1, COUNT, one_of
from optimizers.core.solvers import ea_cg, kfi
from optimizers.core.solvers.inverses import INVERSES
from optimizers.core.solvers.solver import Solver

SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        Solver("kfi", kfi.kfi, {"damping": BETWEEN_0_AND_1, "inverse": one_of(INVERSES)}),
        Solver(
            "ea_cg",
            ea_cg.ea_cg,
            {
                "damping": BETWEEN_0_AND_1,
                "max_iter": COUNT,
                "tolerance": BELOW_1,
                "factor": one_of(ea_cg.FACTORS),
            },
            iterative=True,
        ),
    )
}
