"""SGD with momentum."""

from types import MappingProxyType

import torch

from optimizers.core import Params, Tape, TapeOptimizer, add_scaled
from optimizers.core.ranges import BELOW_1


class SGD(TapeOptimizer):
    """Stochastic gradient descent with (heavy-ball) momentum: m <- momentum m + grad, theta <- theta - lr m.

    The same iterates as ``torch.optim.SGD``. The gradient of a weight is accumulated straight into its momentum.

    Args:
        params: parameters of an ``FCNN``, or groups of them.
        lr: learning rate, above 0.
        momentum: in [0, 1).
        capturable: keep the learning rate on the device, for steps captured in a CUDA graph.

    Raises:
        ValueError: for a hyper-parameter out of range.
    """

    ranges = MappingProxyType({**TapeOptimizer.ranges, "momentum": BELOW_1})

    def __init__(self, params: Params, lr: float = 0.1, momentum: float = 0.9, capturable: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "capturable": capturable})

    @torch.no_grad()
    def step(self, tape: Tape) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """m <- momentum m + E[delta h^T], W <- W - lr m; likewise for biases."""
        gradients = {}
        for layer in tape.layers:
            gradients[layer.weight] = (layer.delta.T / layer.batch, layer.input)
            gradients[layer.bias] = layer.bias_gradient
        for group in self.param_groups:
            for param in group["params"]:
                if param not in gradients or not param.requires_grad:
                    continue
                state, gradient = self.state[param], gradients[param]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(param)
                buffer = state["momentum_buffer"]
                if isinstance(gradient, tuple):
                    buffer.addmm_(*gradient, beta=group["momentum"])
                else:
                    buffer.mul_(group["momentum"]).add_(gradient)
                add_scaled(param, buffer, -group["lr"])
