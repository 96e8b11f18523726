"""EA-CG: the positive-curvature Hessian with conjugate gradients under the expectation approximation."""

from functools import partial
from types import MappingProxyType

from optimizers.core import SOLVERS, Curvature, Params, SecondOrder, pch
from optimizers.core.ranges import GAMMA, check


class EACG(SecondOrder):
    """The paper's method.

    Args:
        params: parameters of an ``FCNN``, or groups of them.
        lr: learning rate, above 0.
        damping: alpha, Eq. (9), in (0, 1).
        gamma: -1 is PCH-1, 0 is PCH-2; see :func:`optimizers.core.pch`.
        max_iter: the most CG iterations of a solve.
        tolerance: epsilon; CG stops when ||r|| <= epsilon ||r_0||.
        factor: ``rank_one`` is the paper's Eq. (11b); ``full`` is Eq. (11a), which Eq. (11b) approximates.
        capturable: keep the learning rate on the device, for steps captured in a CUDA graph.

    Raises:
        ValueError: for a hyper-parameter out of range.
    """

    ranges = MappingProxyType({**SecondOrder.ranges, "gamma": GAMMA})

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        damping: float = 0.01,
        gamma: float = -1,
        max_iter: int = 10,
        tolerance: float = 1e-2,
        factor: str = "rank_one",
        capturable: bool = False,
    ) -> None:
        check(self.ranges, {"gamma": gamma})
        super().__init__(
            params,
            lr=lr,
            curvature=Curvature("pch", partial(pch, gamma=gamma)),
            solver=SOLVERS["ea_cg"],
            capturable=capturable,
            damping=damping,
            max_iter=max_iter,
            tolerance=tolerance,
            factor=factor,
        )
