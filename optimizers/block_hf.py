"""Block-diagonal HF: Hessian-free optimization, one layer at a time (Zhang et al. 2017)."""

from torch import Tensor

from optimizers.hf import HF


class BlockHF(HF):
    """Hessian-free optimization with CG for each layer by itself, on its block of the Gauss-Newton matrix.

    All blocks are solved at the same weights. Backtracking, line search and damping are common to all layers.
    Arguments and errors are those of :class:`optimizers.hf.HF`.
    """

    def blocks(self, params: list[Tensor]) -> list[list[Tensor]]:
        """The weight and the bias of each layer are one block."""
        found: list[list[Tensor]] = []
        for param in params:
            if param.ndim == 2 or not found:
                found.append([])
            found[-1].append(param)
        return found
