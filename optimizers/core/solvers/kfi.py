"""KFI: the Kronecker-factored inverse, Eqs. (12) and (13), in its forms.

symbol                   name             shape
G                        G                [O, O]   an operator
h^{t-1}                  layer.input      [B, I]
E[h h^T] = h^T h / B     A                [I, I]   an operator as well: the Gram matrix of the rows of h
hbar = E[h]              mean_input       [I]
delta^t                  layer.delta      [B, O]
alpha                    damping
sqrt(alpha)/pi           left             damps G
pi sqrt(alpha)           right            damps A

The gradient is delta^T h / B, so a direction is -(G + left I)^-1 delta^T / B  h (A + right I)^-1: one solve for the
rows of delta and one for combinations of the rows of h. Each operator takes the cheaper space for its solve.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from optimizers.core.cholesky import LARGE, Damping, Factor, Request, factorize, on_gpu
from optimizers.core.kept import Kept
from optimizers.core.operators import Damped, Diagonal, Gram, Operator, damped
from optimizers.core.product import Product
from optimizers.core.solvers import small_batch
from optimizers.core.solvers.inverses import INVERSES
from optimizers.core.solvers.once import FEW, Once
from optimizers.core.solvers.solution import Solution, joined
from optimizers.core.solvers.split import split
from optimizers.core.streams import begun, side_by_side
from optimizers.core.tape import Layer

_Two = tuple[Tensor, Tensor]  # scalars, of weight and bias


def kfi(
    layers: Sequence[Layer],
    curvature: Sequence[Operator],
    damping: Damping = 0.01,
    inverse: str = "exact",
) -> Solution:
    """The Kronecker-factored inverse, Eq. (12): d = -(G + sqrt(alpha)/pi I)^-1 grad (E[h h^T] + pi sqrt(alpha) I)^-1.

    pi^2 = (tr E[h h^T] / I) / (tr G / O). Biases: d = -(G + alpha I)^-1 grad b. If a factorization fails, the layer
    takes its negative gradient.

    Args:
        damping: alpha, in (0, 1). If it is a tensor, its number is not read on a GPU.
        inverse: how the right factor is inverted. ``factor`` forms E[h h^T], as the paper does. ``gram`` gets the same
            direction from the B x B matrix h h^T. ``exact`` takes the cheaper of the two for each layer. ``rank_one``
            replaces E[h h^T] by hbar hbar^T, Eq. (13). ``auto`` is the paper's way: ``factor``, and ``rank_one`` for a
            layer whose factor does not fit into memory.
    """
    return kronecker(layers, curvature, [INVERSES[inverse](layer.input) for layer in layers], damping)


def kronecker(
    layers: Sequence[Layer],
    curvature: Sequence[Operator],
    inputs: Sequence[Operator],
    damping: Damping,
    joint: bool = False,
) -> Solution:
    """:func:`kfi` with A as operators of any origin, such as averages over steps.

    Args:
        inputs: A of each layer. One that is a Gram matrix is of the layer's own h, or (h, 1).
        joint: whether weight and bias are one matrix [O, I + 1]. A is then that of the rows (h, 1).
    """
    together = [
        t
        for t, (layer, G, A) in enumerate(zip(layers, curvature, inputs, strict=True))
        if small_batch.suits(layer.batch, on_gpu(layer.delta), G, A) and cast(Gram, G).rows is layer.delta
    ]
    others = [t for t in range(len(layers)) if t not in together]
    solved = [
        solve([layers[t] for t in part], [curvature[t] for t in part], [inputs[t] for t in part], damping, joint)
        for solve, part in ((small_batch.solve, together), (_layer_by_layer, others))
        if part
    ]
    return joined(solved, together + others)


def _layer_by_layer(
    layers: Sequence[Layer],
    curvature: Sequence[Operator],
    inputs: Sequence[Operator],
    damping: Damping,
    joint: bool,
) -> Solution:
    """Each layer by itself, which holds less. On a GPU all that is small is factorized at once, before."""
    shares = split(damping, *map(torch.stack, zip(_traces(curvature), _traces(inputs), strict=True)))
    dampings = [(one,) if joint else (damping, one) for one in shares.left], [*zip(shares.right, strict=True)]
    requests = [pair for side in zip((curvature, inputs), dampings, strict=True) for pair in zip(*side, strict=True)]
    gpu, device = on_gpu(layers[0].delta), layers[0].delta.device
    together = [request for request in requests if gpu and is_together(request[0])]
    ready = _begun(together, device) if together else {}
    sides = [partial(_factorized, ready, gpu, *request) for request in requests]
    works = zip(layers, inputs, sides[: len(layers)], sides[len(layers) :], strict=True)
    works = [partial(_layer, *one, joint) for one in works]
    weights, biases, infos, sums = zip(*side_by_side(works, device), strict=True)
    infos, sums = (torch.stack([*itertools.chain(*pairs)]).view(-1, 2) for pairs in (infos, sums))
    return shares.solution([*weights], [*biases], infos != 0, sums, joint)


def is_together(one: Operator) -> bool:
    """Whether a GPU factorizes G or A of a layer with others at once: until one factorization fills it."""
    return not isinstance(one, Kept) and one.core_size <= (LARGE if one.is_in_batch else small_batch.SMALL)


def _begun(
    together: Sequence[tuple[Operator, Sequence[Damping]]], device: torch.device
) -> dict[Operator, Callable[[], list[Damped]]]:
    """All of them for each damping. What needs none of them does not wait."""
    ask = begun(partial(damped, together, small_batch.SMALL), device)
    return {G: lambda number=number: ask()[number] for number, (G, _) in enumerate(together)}


def _traces(operators: Sequence[Operator]) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
    """The traces, and the mean eigenvalues."""
    traces = [one.trace() for one in operators]
    return torch.stack(traces), torch.stack([trace / one.size for trace, one in zip(traces, operators, strict=True)])


def one_by_one(gpu: bool, G: Operator) -> bool:
    """Whether G is factorized for one damping after the other, which holds less; for the bias if that must be."""
    return not gpu and not isinstance(G, Kept | Diagonal)


def _factorized(
    ready: Mapping[Operator, Callable[[], list[Damped]]], gpu: bool, G: Operator, dampings: Sequence[Damping]
) -> Iterator[Damped]:
    """G for each damping."""
    if G in ready:
        yield from ready[G]()
    elif len(dampings) > 1 and one_by_one(gpu, G):
        core, (of_bias, of_weight) = G.core(), dampings
        if len(core) > FEW:
            yield Damped(G, Once(of_bias, core, torch.zeros((), dtype=torch.int32)))
        else:
            yield Damped(G, _factor(core, of_bias))
        yield Damped(G, _factor(core, of_weight))
    else:
        yield from G.damped(*dampings)


def _factor(core: Float[Tensor, "c c"], damping: Damping) -> Factor:
    ((factor,),) = factorize([Request(len(core), lambda: core, [damping])])
    return factor


def _layer(
    layer: Layer,
    inputs: Operator,
    of_outputs: Callable[[], Iterator[Damped]],
    of_inputs: Callable[[], Iterator[Damped]],
    joint: bool,
) -> tuple[Product, Float[Tensor, " {layer.outputs}"], _Two, _Two]:
    """Directions in weight and bias, the ``info`` of their factorizations, and the sums of their entries.

    Args:
        inputs: A.
        of_outputs: G, damped for the bias, unless it is joint, and for the weight.
        of_inputs: A, damped for the weight.
    """
    (A,) = [None] if inputs.is_in_batch else of_inputs()  # in the space of the batch after G, which is let go then
    if A is None or A.operator.is_in_batch:  # (G + left I)^-1 delta^T, then combinations of the rows of h
        rows, bias, info, bias_info = _of_outputs(layer, of_outputs, lambda G: Product(None, layer.delta), joint)
        (A,) = of_inputs() if A is None else [A]
        solved, info = A.solve(Product(rows.T, _rows(layer, inputs))).left, info + A.info
        assert solved is not None
        del rows
        left = torch.where(info == 0, solved, layer.delta.T).div_(-layer.batch)
        direction, total = Product(left, layer.input), left.sum()
        bias = left.sum(1) if bias is None else bias  # the last column, as (h, 1) ends with ones
    else:  # (G + left I)^-1 grad, which has fewer columns
        gradient = _gradient(layer, joint)
        right = partial(_transposed, layer, inputs, gradient)
        rows, bias, info, bias_info = _of_outputs(layer, of_outputs, right, joint)
        solved, info = A.solve(Product(None, rows.T)).dense(), info + A.info
        del rows
        dense = torch.where(info == 0, solved, gradient, out=torch.empty_like(gradient)).neg_()  # row by row
        total = dense.sum()
        if bias is None:
            dense, bias = dense[:, :-1].contiguous(), dense[:, -1].contiguous()
        direction = Product(None, dense)
    return direction, bias, (info, info if bias_info is None else bias_info), (total, bias.sum())


def _of_outputs(
    layer: Layer, of_outputs: Callable[[], Iterator[Damped]], right: Callable[[Operator], Product], joint: bool
) -> tuple[Float[Tensor, "m O"], Float[Tensor, " O"] | None, Int[Tensor, ""], Int[Tensor, ""] | None]:
    """What is solved with G: the rows of a right side, the direction of the bias, and ``info`` of both."""
    factors = of_outputs()
    bias, bias_info = None, None
    if not joint:
        # deviates: biases are solved with (G + alpha I)^-1; the paper states Eq. (12) for weights alone
        G = next(factors)
        bias, bias_info = G.solve(_bias_gradient(layer, G.operator)).dense().squeeze(0), G.info
        bias = torch.where(bias_info == 0, bias, layer.bias_gradient).neg_()
        del G  # before the next is there
    G = next(factors)
    return G.solve(right(G.operator)).dense(), bias, G.info, bias_info


def with_ones(rows: Float[Tensor, "B I"]) -> Float[Tensor, "B n"]:
    """(h, 1): the inputs of a bias are ones."""
    return pad(rows, (0, 1), value=1.0)


def _rows(layer: Layer, inputs: Operator) -> Float[Tensor, "B n"]:
    """The rows that A is the Gram matrix of, h or (h, 1)."""
    return inputs.rows if isinstance(inputs, Gram) else layer.input


def _gradient(layer: Layer, joint: bool) -> Float[Tensor, "O n"]:
    """Of the weight, and joint with that of the bias as a last column."""
    return torch.cat([layer.weight_gradient, layer.bias_gradient[:, None]], 1) if joint else layer.weight_gradient


def _transposed(layer: Layer, inputs: Operator, gradient: Float[Tensor, "O n"], G: Operator) -> Product:
    """grad^T, such that G solves it in its own space."""
    return Product(_rows(layer, inputs).T / layer.batch, layer.delta) if G.is_in_batch else Product(None, gradient.T)


def _bias_gradient(layer: Layer, G: Operator) -> Product:
    """The gradient of the bias as a row, likewise."""
    if not G.is_in_batch:
        return Product(None, layer.bias_gradient.unsqueeze(0))
    return Product(layer.delta.new_full((1, layer.batch), 1 / layer.batch), layer.delta)
