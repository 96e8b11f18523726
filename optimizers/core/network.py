"""The fully connected network: one forward and one backward pass, by hand, onto a tape.

symbol                                    name             shape
z^t = W^t h^{t-1} + b^t                   preactivation    [B, n_t]
h^t = sigma(z^t), h^0 = x, h^k = z^k      input (of t+1)   [B, n_t]
delta^k = grad_z C                        delta            [B, n_k]
delta^{t-1} = phi'(z^{t-1}) * (W^tT delta^t)
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optimizers.core.activations import ACTIVATIONS, Activation
from optimizers.core.criteria import Criterion
from optimizers.core.tape import Layer, Tape

_DRAWN = 2**20  # numbers at a time, so that float64 takes little memory beside a large weight
_CONNECTIONS = 15  # weights of a unit that sparse initialization leaves at other than 0


def _draw_uniform(weight: Float[Tensor, "O I"], bound: float, generator: torch.Generator) -> None:
    """Within the bound, drawn in float64 and rounded to the dtype of ``weight``."""
    for part in weight.view(-1).split(_DRAWN):
        part.copy_(torch.empty(part.shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator))


def _draw_xavier(weight: Float[Tensor, "O I"], generator: torch.Generator) -> None:
    """Uniform within sqrt(6 / (I + O))."""
    # deviates: uniform, and biases are zero; the paper says "Xavier" alone
    _draw_uniform(weight, math.sqrt(6 / sum(weight.shape)), generator)


def _draw_torch(weight: Float[Tensor, "O I"], generator: torch.Generator) -> None:
    """Uniform within 1 / sqrt(I), as torch.nn.Linear draws its weights."""
    _draw_uniform(weight, 1 / math.sqrt(weight.shape[1]), generator)


def _draw_sparse(weight: Float[Tensor, "O I"], generator: torch.Generator) -> None:
    """Of each unit 15 weights, or all I if there are fewer, are standard normal, and the others 0 (Martens 2010)."""
    weight.zero_()
    for unit in weight:
        inputs = torch.randperm(len(unit), generator=generator)[:_CONNECTIONS]
        drawn = torch.randn(len(inputs), generator=generator, dtype=torch.float64)
        unit[inputs] = drawn.to(weight.dtype)


INITIALIZATIONS: dict[str, Callable[[Tensor, torch.Generator], None]] = {
    "xavier": _draw_xavier,
    "sparse": _draw_sparse,
    "torch": _draw_torch,
}


class FCNN(nn.Module):
    """A fully connected network with a linear last layer.

    Args:
        sizes: n_0, ..., n_k, for example ``(64, 32, 10)``.
        activation: of the hidden layers: a name from ``ACTIVATIONS`` or an :class:`Activation`; or one for each of
            them, first to last, as in ``("sigmoid", "linear", "sigmoid")``.
        initialization: of the weights; biases are zero. ``xavier`` is the paper's, drawn from Xavier's uniform
            distribution; ``sparse`` leaves each unit 15 weights, drawn from the standard normal (Martens 2010);
            ``torch`` draws them as ``torch.nn.Linear`` does, uniform within 1 / sqrt(n_{t-1}).
        seed: of the initial weights, which are the same on every device and, up to rounding, in every dtype.
        device: where the parameters live.
        dtype: in which precision.

    Raises:
        ValueError: for fewer than two sizes, a size below 1, an unknown activation or initialization, or
            a number of activations that is not that of the hidden layers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "sigmoid",
        *,
        initialization: str = "xavier",
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or any(size < 1 for size in sizes):
            raise ValueError(f"a network needs at least two sizes, each 1 or more, got {list(sizes)}")
        if initialization not in INITIALIZATIONS:
            raise ValueError(f"initialization must be one of {', '.join(INITIALIZATIONS)}, got {initialization!r}")
        self.sizes = tuple(sizes)
        self.activations = _of_hidden_layers(activation, len(sizes) - 2)
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList()
        for inputs, outputs in pairwise(sizes):
            linear = cast(nn.Linear, nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype))
            INITIALIZATIONS[initialization](linear.weight.data, generator)
            nn.init.zeros_(linear.bias)
            self.layers.append(linear.to(device))

    @property
    def linears(self) -> list[nn.Linear]:
        return cast(list[nn.Linear], list(self.layers))

    def forward(self, x: Float[Tensor, "*B {self.sizes[0]}"]) -> Float[Tensor, "*B {self.sizes[-1]}"]:
        """Logits of inputs; differentiable, as any module's."""
        *hidden, last = self.linears
        for linear, activation in zip(hidden, self.activations, strict=True):
            x = activation.value(linear(x))
        return last(x)

    @torch.no_grad()
    def record(self, criterion: Criterion, x: Tensor, labels: Tensor) -> Tape:
        """One forward and one backward pass.

        Args:
            x: inputs, [B, n_0], in the parameters' dtype.
            labels: what the criterion takes: class indices [B], or vectors [B, n_k].

        Raises:
            ValueError: for an empty batch or shapes that do not fit.
        """
        if x.ndim != 2 or x.shape[1] != self.sizes[0] or x.shape[0] == 0:
            raise ValueError(f"inputs must be [B, {self.sizes[0]}] with B of 1 or more, got {list(x.shape)}")
        expected = [len(x), self.sizes[-1]] if criterion.vectors else [len(x)]
        if list(labels.shape) != expected:
            raise ValueError(f"labels of {criterion.name} must be {expected}, got {list(labels.shape)}")
        weights = [linear.weight for linear in self.linears]
        biases = [linear.bias for linear in self.linears]
        inputs: list[Tensor] = [x]
        preactivations: list[Tensor] = []
        for weight, bias in zip(weights, biases, strict=True):
            if preactivations:
                inputs.append(self.activations[len(inputs) - 1].value(preactivations[-1]))
            preactivations.append(torch.addmm(bias, inputs[-1], weight.T))
        logits = preactivations[-1]
        delta = criterion.gradient(logits, labels)
        layers: list[Layer] = []
        for t in reversed(range(len(weights))):
            fed_by = (self.activations[t - 1], preactivations[t - 1]) if t > 0 else None
            pullback = delta @ weights[t] if t > 0 else None
            layers.append(Layer(weights[t], biases[t], inputs[t], fed_by, delta, pullback))
            if pullback is not None:
                delta = layers[-1].slope * pullback
        return Tape(layers[::-1], criterion, logits, labels)


def _of_hidden_layers(given: str | Activation | Sequence[str | Activation], count: int) -> tuple[Activation, ...]:
    """One activation for each of ``count`` hidden layers."""
    names = [given] if isinstance(given, str | Activation) else list(given)
    for name in names:
        if isinstance(name, str) and name not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    if isinstance(given, str | Activation):
        names *= count
    if len(names) != count:
        raise ValueError(f"activation must be one, or {count}, one for each hidden layer, got {len(names)}")
    return tuple(ACTIVATIONS[name] if isinstance(name, str) else name for name in names)
