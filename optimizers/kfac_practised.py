"""K-FAC as practised: averaged factors, kept inverses, and steps and damping from the quadratic model."""

from types import MappingProxyType

from optimizers.core import Criterion, Params, Span
from optimizers.kfac import KFAC


class PractisedKFAC(KFAC):
    """K-FAC as Martens and Grosse (2015) and kfac-jax have it: :class:`optimizers.kfac.KFAC` with other defaults.

    Labels are sampled from the model, biases are joint, and learning rate and momentum of each step minimize the
    quadratic model. A criterion that is not convex is refused.

    Args:
        params: parameters of an ``FCNN``, in one group.
        lr: a factor of the step that minimizes the model; above 0.
        damping: the first lambda, in (0, 1).
        decay: of the averages of the factors.
        inverse_interval: in so many steps the factors are inverted once.
        damping_interval: after so many steps the damping is adapted; None keeps it.
        min_damping: below which it does not fall.
        criterion: of the tapes to come.
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
