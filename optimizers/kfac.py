"""KFAC: the Fisher matrix with the Kronecker-factored inverse."""

import math
from collections.abc import Sequence
from functools import partial
from types import MappingProxyType

from torch import Generator, Tensor

from optimizers.core import (
    CURVATURES,
    SOLVERS,
    Criterion,
    Curvature,
    Dense,
    Gram,
    Layer,
    Operator,
    Params,
    SecondOrder,
    Solution,
    Solver,
    Tape,
)
from optimizers.core.cholesky import Damping
from optimizers.core.curvature import exact_fisher, formed_fisher, require_convex, require_draws, sampled_fisher
from optimizers.core.kept import Kept, average, count
from optimizers.core.ranges import BELOW_1, BETWEEN_0_AND_1, COUNT, POSITIVE, check, one_of, or_none
from optimizers.core.solvers.inverses import INVERSES
from optimizers.core.solvers.kfi import kronecker, with_ones
from optimizers.core.update import PLAIN, Update, with_momentum

_LABELS = ("batch", "sampled", "exact")


class KFAC(SecondOrder):
    """Martens and Grosse's method as the paper compares it: curvature anew from each batch, no running averages.

    With the options from ``decay`` on it is K-FAC as practised. They are off by default, and take one parameter group.

    Args:
        params: parameters of an ``FCNN``, or groups of them.
        lr: learning rate, above 0.
        damping: alpha, Eq. (12), in (0, 1).
        inverse: ``exact``, ``factor``, ``gram``, ``rank_one`` or ``auto``; see :func:`optimizers.core.solvers.kfi`.
            All but ``exact`` form the Fisher matrix, as the paper does.
        labels: of the Fisher matrix. ``batch``, as in the paper, is the empirical Fisher matrix, which shrinks with the
            gradients. ``sampled`` draws labels from the model, as Martens and Grosse do. ``exact`` is the mean over all
            labels, at one backward pass for each.
        decay: of moving averages of the factors G and A = E[h h^T]: the k-th batch has the weight
            max(1 / k, 1 - decay).
        factor_interval: steps from one update of the factors to the next.
        inverse_interval: steps from one inversion of the factors to the next; a multiple of ``factor_interval``.
        joint_bias: solve weight and bias of a layer as one matrix, with inputs (h, 1).
        momentum: in [0, 1).
        kl_clip: the most that lr^2 grad^T F^-1 grad may be; a longer step is shortened. Above 0.
        quadratic: find the learning rate and momentum that minimize the quadratic model of the loss, with exact
            products with the Fisher matrix; ``lr`` then scales the step. Martens and Grosse (2015), sections 6.4 and 7.
        damping_interval: steps from one adaptation of the damping to the next, by Levenberg and Marquardt's rule (their
            section 6.5). ``param_groups`` has the current damping. The factors are damped by its root, as in kfac-jax;
            Martens and Grosse search that as well.
        omega: in (0, 1). An adaptation multiplies or divides the damping by omega^damping_interval.
        min_damping: the lowest adapted damping. If batches are a small part of the data, it must be higher than the
            default, since the model predicts the loss of its own batch alone.
        criterion: the training criterion. It must be convex for ``quadratic`` and ``damping_interval``.
        capturable: keep the learning rate on the device, for steps captured in a CUDA graph.

    Raises:
        ValueError: for a hyper-parameter out of range, a criterion that does not suit, or options that exclude each
            other.
    """

    ranges = MappingProxyType(
        {
            **SecondOrder.ranges,
            "labels": one_of(_LABELS),
            "decay": BELOW_1,
            "factor_interval": COUNT,
            "inverse_interval": COUNT,
            "momentum": BELOW_1,
            "kl_clip": or_none(POSITIVE),
            "damping_interval": or_none(COUNT),
            "omega": BETWEEN_0_AND_1,
            "min_damping": POSITIVE,
        }
    )

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        damping: float = 0.01,
        inverse: str = "exact",
        labels: str = "batch",
        decay: float = 0.0,
        factor_interval: int = 1,
        inverse_interval: int = 1,
        joint_bias: bool = False,
        momentum: float = 0.0,
        kl_clip: float | None = None,
        quadratic: bool = False,
        damping_interval: int | None = None,
        omega: float = 0.95,
        min_damping: float = 1e-8,
        criterion: Criterion | None = None,
        capturable: bool = False,
    ) -> None:
        of_factors = {"decay": decay, "factor_interval": factor_interval, "inverse_interval": inverse_interval}
        of_steps = {"momentum": momentum, "kl_clip": kl_clip, "quadratic": quadratic}
        of_damping = {"damping_interval": damping_interval, "omega": omega, "min_damping": min_damping}
        check(self.ranges, {"labels": labels, **of_factors, **of_steps, **of_damping})
        keeps = decay > 0 or factor_interval > 1 or inverse_interval > 1
        has_rule = any(of_steps.values()) or damping_interval is not None
        differ = labels == "sampled" or keeps or (damping_interval or 1) > 1
        if capturable and differ:
            raise ValueError("a captured step cannot differ from the next: leave labels=sampled, decay and intervals")
        if inverse_interval % factor_interval:
            raise ValueError("inverse_interval must be a multiple of factor_interval")
        if keeps and inverse not in ("exact", "factor"):
            raise ValueError(f"decay and intervals keep the factor A, which inverse={inverse} does not form")
        if quadratic and (momentum or kl_clip):
            raise ValueError("quadratic finds momentum and length of a step: leave momentum and kl_clip")
        if criterion is not None and labels != "batch":
            require_draws(criterion)
        if criterion is not None and (quadratic or damping_interval):
            require_convex(criterion)
        curvature = {
            "batch": CURVATURES["fisher"] if inverse == "exact" else Curvature("formed_fisher", formed_fisher),
            "sampled": Curvature("sampled_fisher", self._sampled_fisher),
            "exact": Curvature("exact_fisher", exact_fisher),
        }[labels]
        if keeps:
            curvature = Curvature(f"kept_{curvature.name}", partial(self._averaged, curvature))
        kfi, is_practised = SOLVERS["kfi"], keeps or joint_bias or has_rule
        super().__init__(
            params,
            lr=lr,
            curvature=curvature,
            solver=Solver("kept_kfi", self._solve, kfi.ranges) if keeps or joint_bias else kfi,
            update=Update("with_momentum", with_momentum) if has_rule else PLAIN,
            period=math.lcm(inverse_interval, damping_interval or 1),
            criterion=criterion,
            capturable=None if differ else capturable,
            settings={**of_factors, "joint_bias": joint_bias, **of_steps, **of_damping} if is_practised else {},
            damping=damping,
            inverse=inverse,
        )
        if is_practised and len(self.param_groups) > 1:
            raise ValueError(f"K-FAC as practised takes one parameter group, got {len(self.param_groups)}")
        if damping_interval is not None:
            (group,) = self.param_groups
            group["damping"] = group["params"][0].new_tensor(damping)

    def _sampled_fisher(self, tape: Tape) -> list[Operator]:
        """The k-th draw has the seed k. The count is state, so a resumed run draws the same."""
        step = count(self.state, "sampling")
        return sampled_fisher(tape, Generator(tape.logits.device).manual_seed(step))

    def _averaged(self, fisher: Curvature, tape: Tape) -> list[Operator]:
        """The moving average of G of each layer. That of A is updated too, for the solver."""
        (group,) = self.param_groups
        updates, passed = divmod(count(self.state, "factors") - 1, group["factor_interval"])
        states = [self._state(layer) for layer in tape.layers]
        if not passed:
            weight = max(1 / (updates + 1), 1 - group["decay"])
            for layer, state, G in zip(tape.layers, states, fisher(tape), strict=True):
                if state is not None:
                    average(state, "G", G, weight)
                    average(state, "A", Gram(self._rows(layer)), weight)
        found = zip(tape.layers, states, strict=True)
        return [Gram(layer.delta) if state is None else Dense(state["G"]) for layer, state in found]

    def _solve(
        self, layers: Sequence[Layer], curvature: Sequence[Operator], damping: Damping = 0.01, inverse: str = "exact"
    ) -> Solution:
        """KFI with A and inverses from the state, where they are kept."""
        (group,) = self.param_groups
        states = [self._state(layer) or {} for layer in layers]
        joint, interval = group["joint_bias"], group["inverse_interval"]
        if interval > 1:
            due = count(self.state, "inverses") % interval == 1
            names = ("G_inverse",) if joint else ("bias_inverse", "G_inverse")
            curvature = [Kept(state["G"], state, names, due) for state in states]
            inputs = [Kept(state["A"], state, ("A_inverse",), due) for state in states]
        elif "A" in states[0]:
            inputs = [Dense(state["A"]) for state in states]
        else:
            inputs = [INVERSES[inverse](self._rows(layer)) for layer in layers]
        return kronecker(layers, curvature, inputs, damping, joint)

    def _rows(self, layer: Layer) -> Tensor:
        return with_ones(layer.input) if self.param_groups[0]["joint_bias"] else layer.input

    def _state(self, layer: Layer) -> dict[str, Tensor] | None:
        """The state of a layer: that of its weight, or of its bias if only this is trained; None if neither is."""
        mine = set(self.param_groups[0]["params"])
        return next((self.state[param] for param in (layer.weight, layer.bias) if param in mine), None)
