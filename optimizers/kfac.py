"""KFAC: the Fisher matrix with the Kronecker-factored inverse."""

from types import MappingProxyType
from typing import cast

from torch import Generator

from optimizers.core import CURVATURES, SOLVERS, Criterion, Curvature, Operator, Params, SecondOrder, Tape
from optimizers.core.curvature import exact_fisher, formed_fisher, require_draws, sampled_fisher
from optimizers.core.ranges import check, one_of

_LABELS = ("batch", "sampled", "exact")


class KFAC(SecondOrder):
    """Martens and Grosse's method as the paper compares it: curvature anew from each batch, no running averages.

    Args:
        params: parameters of an ``FCNN``, or groups of them.
        lr: learning rate, above 0.
        damping: alpha, Eq. (12), in (0, 1).
        inverse: ``exact``, ``factor``, ``gram``, ``rank_one`` or ``auto``; see :func:`optimizers.core.solvers.kfi`.
            All but ``exact`` form the Fisher matrix, as the paper does.
        labels: of the Fisher matrix: those of the ``batch``, as in the paper, which is the empirical Fisher matrix and
            shrinks with the gradients; ``sampled`` from the model, as Martens and Grosse; or ``exact``, all that the
            model may draw, for a backward pass each.
        criterion: of the tapes to come. Any fits.
        capturable: keep the learning rate on the device, for steps captured in a CUDA graph.
    """

    ranges = MappingProxyType({**SecondOrder.ranges, "labels": one_of(_LABELS)})

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        damping: float = 0.01,
        inverse: str = "exact",
        labels: str = "batch",
        criterion: Criterion | None = None,
        capturable: bool = False,
    ) -> None:
        check(self.ranges, {"labels": labels})
        if capturable and labels == "sampled":
            raise ValueError("labels=sampled draws anew in every step, which a captured step cannot: use labels=batch")
        of_batch = CURVATURES["fisher"] if inverse == "exact" else Curvature("formed_fisher", formed_fisher)
        if criterion is not None and labels != "batch":
            require_draws(criterion)
        of_labels = {
            "batch": of_batch,
            "sampled": Curvature("sampled_fisher", self._sampled_fisher),
            "exact": Curvature("exact_fisher", exact_fisher),
        }
        super().__init__(
            params,
            lr=lr,
            curvature=of_labels[labels],
            solver=SOLVERS["kfi"],
            criterion=criterion,
            capturable=capturable,
            damping=damping,
            inverse=inverse,
        )

    def _sampled_fisher(self, tape: Tape) -> list[Operator]:
        """The draws of a step are seeded by its number, which is state, so that a resumed run draws the same."""
        state = cast(dict[str, dict[str, int]], self.state)  # one entry beside those of the parameters
        step = state["sampling"].get("step", 0) + 1
        state["sampling"] = {"step": step}
        return sampled_fisher(tape, Generator(tape.logits.device).manual_seed(step))
