"""MyOpt: a step along the gradient, as a start.

kronbench check my_opt.py
kronbench compare --optimizer sgd --optimizer my_opt.py
"""

import torch

from optimizers.core import Params, Tape, TapeOptimizer


class MyOpt(TapeOptimizer):  # or any torch.optim.Optimizer: it finds gradients in param.grad
    # The options are the parameters from the second on: my_opt.py[lr=0.2]. One that is called criterion gets the
    # criterion. A value that is out of range is refused here, by a ValueError; TapeOptimizer does that for lr.
    def __init__(self, params: Params, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, tape: Tape) -> None:
        (group,) = self.param_groups  # schedulers change its lr
        for layer in tape.layers:
            # of a batch of B: layer.input [B, I] and layer.delta [B, O], the gradients in the layer's outputs; do not
            # write to them, and do not read numbers from the device. What a step leaves for the next one goes into
            # self.state[parameter], where it is counted and saved.
            layer.weight.sub_(layer.weight_gradient, alpha=group["lr"])
            layer.bias.sub_(layer.bias_gradient, alpha=group["lr"])
