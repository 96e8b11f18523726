"""K-FAC as practised: averaged factors, kept inverses, and steps and damping from the quadratic model."""

from types import MappingProxyType

from optimizers.core import Criterion, Params, Span
from optimizers.kfac import KFAC


class PractisedKFAC(KFAC):
    """K-FAC as Martens and Grosse (2015) and kfac-jax have it: :class:`optimizers.kfac.KFAC` with other defaults.

    Labels are sampled from the model, biases are joint, and learning rate and momentum of each step minimize the
    quadratic model.

    Args:
        params: parameters of an ``FCNN``, in one group.
        lr: scales the step that minimizes the model; above 0.
        damping: the first lambda, in (0, 1).
        decay: of the moving averages of the factors.
        inverse_interval: steps from one inversion of the factors to the next.
        damping_interval: steps from one adaptation of the damping to the next; None keeps it as it is.
        min_damping: the lowest adapted damping.
        criterion: the training criterion.

    Raises:
        ValueError: for a hyper-parameter out of range, or a criterion that is not convex.
    """

    space = MappingProxyType({"lr": Span(0.05, 2), "damping": Span(1e-3, 0.3)})

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        damping: float = 0.01,
        decay: float = 0.95,
        inverse_interval: int = 5,
        damping_interval: int | None = 5,
        min_damping: float = 1e-3,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            damping=damping,
            labels="sampled",
            decay=decay,
            inverse_interval=inverse_interval,
            joint_bias=True,
            quadratic=True,
            damping_interval=damping_interval,
            min_damping=min_damping,
            criterion=criterion,
        )
