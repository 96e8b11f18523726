"""KFRA: the Gauss-Newton matrix by recursion with the Kronecker-factored inverse."""

from optimizers.core import CROSS_ENTROPY, CURVATURES, SOLVERS, Criterion, Params, SecondOrder


class KFRA(SecondOrder):
    """Botev, Ritter and Barber's method as the paper compares it.

    Args:
        params: parameters of an ``FCNN``, or groups of them.
        lr: learning rate, above 0.
        damping: alpha, Eq. (12), in (0, 1).
        inverse: ``exact``, ``factor``, ``gram``, ``rank_one`` or ``auto``; see :func:`optimizers.core.solvers.kfi`.
        criterion: the training criterion.
        capturable: keep the learning rate on the device, for steps captured in a CUDA graph.

    Raises:
        ValueError: for a hyper-parameter out of range, or a criterion that is not convex.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        damping: float = 0.01,
        inverse: str = "exact",
        criterion: Criterion = CROSS_ENTROPY,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            curvature=CURVATURES["gauss_newton"],
            solver=SOLVERS["kfi"],
            criterion=criterion,
            capturable=capturable,
            damping=damping,
            inverse=inverse,
        )
