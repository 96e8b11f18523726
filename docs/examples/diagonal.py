"""Descent along the diagonal of the PCH: nothing but divisions."""

import torch

from optimizers.core import Params, Tape, TapeOptimizer, pch


class DiagonalPCH(TapeOptimizer):
    def __init__(self, params: Params, lr: float = 0.1, damping: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "damping": damping})

    @torch.no_grad()
    def step(self, tape: Tape) -> None:
        (group,) = self.param_groups
        for layer, G in zip(tape.layers, pch(tape), strict=True):
            scale = G.diagonal() + group["damping"]
            layer.weight.sub_(layer.weight_gradient / scale[:, None], alpha=group["lr"])
            layer.bias.sub_(layer.bias_gradient / scale, alpha=group["lr"])
