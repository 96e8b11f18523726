"""Optimizers of other libraries beside ours: what each computes, and its training step as its users write it.

An adapter takes a network and a learning rate, and returns a function that takes a whole step on a batch, with new
curvature and a new inverse. It imports only its own library, so the others need not be installed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from optimizers.core import CROSS_ENTROPY, FCNN
from suites.harness.measure.step import Step
from suites.harness.training.catalog import choose

Take = Callable[[Tensor, Tensor], object]
DAMPING = 0.01  # alpha of Eq. (12), for all


@dataclass(frozen=True)
class Peer:
    """An optimizer that is measured.

    name: in the table.
    package: the package to install; empty for ours.
    computes: its method, in a few words.
    make: its adapter.
    like: the name of the optimizer of ours that computes the same, or nearly; empty if there is none.
    equal: the parameters whose directions must equal those of ``like``.
    differs: why the directions of the others do not.
    """

    name: str
    package: str
    computes: str
    make: Callable[[FCNN, float], Take]
    like: str = ""
    equal: Literal["none", "weights", "all"] = "none"
    differs: str = ""


def by_gradients(spec: str, network: FCNN, lr: float) -> Take:
    """Autograd, then any optimizer that reads ``param.grad``."""
    optimizer = choose(f"{spec[:-1]},lr={lr}]" if spec.endswith("]") else f"{spec}[lr={lr}]").build(
        network, CROSS_ENTROPY
    )
    closes = Step(network, optimizer, CROSS_ENTROPY, iter(())).takes_closure

    def take(x: Tensor, labels: Tensor) -> None:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = cross_entropy(network(x), labels)
            loss.backward()
            return loss

        if closes:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()

    return take


def of_ours(spec: str, network: FCNN, lr: float) -> Take:
    """An optimizer of this package, by its name."""
    optimizer = choose(spec).build(network, CROSS_ENTROPY)
    for group in optimizer.param_groups:
        group["lr"] = lr
    step = Step(network, optimizer, CROSS_ENTROPY, iter(()))
    return lambda x, labels: step.update(network.record(CROSS_ENTROPY, x, labels))


def of_backpack(extension: str, network: FCNN, lr: float) -> Take:
    """BackPACK gives Kronecker factors; users write Eq. (12) themselves."""
    backpack, extensions = import_module("backpack"), import_module("backpack.extensions")
    model, loss = backpack.extend(_sequential(network)), backpack.extend(nn.CrossEntropyLoss())
    factors, name = getattr(extensions, extension)(), extension.lower()

    def take(x: Tensor, labels: Tensor) -> None:
        model.zero_grad()
        with backpack.backpack(factors):
            loss(model(x), labels).backward()
        with torch.no_grad():
            for linear in network.linears:
                (G, A), (of_bias,) = getattr(linear.weight, name), getattr(linear.bias, name)
                pi = ((A.trace() / len(A)) / (G.trace() / len(G))).sqrt()
                direction = _inverse(G, DAMPING**0.5 / pi) @ _gradient(linear.weight) @ _inverse(A, DAMPING**0.5 * pi)
                linear.weight.sub_(direction, alpha=lr)
                linear.bias.sub_(_inverse(of_bias, DAMPING) @ _gradient(linear.bias), alpha=lr)

    return take


def of_curvlinops(operator: str, fisher_type: str, joint_bias: bool, network: FCNN, lr: float) -> Take:
    """curvlinops multiplies gradients by the inverse. ``joint_bias``: weight and bias of a layer share a matrix."""
    curvlinops = import_module("curvlinops")
    damped = {"use_exact_damping" if operator.startswith("E") else "use_heuristic_damping": True}
    parameters = list(network.parameters())

    def take(x: Tensor, labels: Tensor) -> None:
        fisher = getattr(curvlinops, operator)(
            network,
            nn.CrossEntropyLoss(),
            parameters,
            [(x, labels)],
            fisher_type=fisher_type,
            separate_weight_and_bias=not joint_bias,
            check_deterministic=False,
            num_data=len(x),
        )
        gradients = torch.autograd.grad(cross_entropy(network(x), labels), parameters)
        inverse = curvlinops.KFACInverseLinearOperator(fisher, damping=DAMPING, **damped)
        _move(parameters, inverse @ list(gradients), lr)

    return take


def of_asdl(maker: str, network: FCNN, lr: float) -> Take:
    """ASDL writes its directions to ``param.grad``."""
    asdl = import_module("asdl")
    model = _sequential(network)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    config = asdl.PreconditioningConfig(damping=DAMPING)
    made = getattr(asdl, maker)(model, config, fisher_type="fisher_emp")

    def take(x: Tensor, labels: Tensor) -> None:
        config.data_size = len(x)
        optimizer.zero_grad()
        output = made.setup_model_call(model, x)
        made.setup_loss_call(cross_entropy, output, labels, reduction="sum")
        made.forward_and_backward()
        optimizer.step()

    return take


def of_nngeometry(representation: str, network: FCNN, lr: float) -> Take:
    """NNGeometry solves with the Fisher matrix in a representation."""
    metrics, objects = import_module("nngeometry.metrics"), import_module("nngeometry.object")
    model = _sequential(network)

    def take(x: Tensor, labels: Tensor) -> None:
        batch = DataLoader(TensorDataset(x, labels), len(x))
        fisher = metrics.FIM(model, batch, getattr(objects, representation), device=str(x.device))
        if representation == "PMatEKFAC":
            fisher.update_diag(batch)
        model.zero_grad()
        cross_entropy(model(x), labels).backward()
        solved = fisher.solve(objects.PVector.from_model_grad(model), regul=DAMPING).to_dict()
        _move(network.parameters(), chain.from_iterable(solved.values()), lr)

    return take


def of_singd(network: FCNN, lr: float) -> Take:
    """SINGD hooks the layers."""
    model = _sequential(network)
    optimizer = import_module("singd.optim.optimizer").SINGD(model, lr=lr, momentum=0.0, damping=DAMPING, T=1)

    def take(x: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()
        optimizer.step()

    return take


def _sequential(network: FCNN) -> nn.Sequential:
    """The same layers as a chain of modules, which most libraries hook."""
    return nn.Sequential(*chain.from_iterable((linear, nn.Sigmoid()) for linear in network.linears))[:-1]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "backward has been called"
    return parameter.grad


def _inverse(matrix: Tensor, damping: Tensor | float) -> Tensor:
    damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped))


@torch.no_grad()
def _move(parameters: Iterable[Tensor], directions: Iterable[Tensor], lr: float) -> None:
    for parameter, direction in zip(parameters, directions, strict=True):
        parameter.sub_(direction, alpha=lr)


_AVERAGES = "no matrix of the network: averages of its gradients"
OURS = tuple(
    Peer(spec, "", computes, partial(of_ours, spec))
    for spec, computes in {
        "sgd": "SGD with momentum, from the tape",
        "kfac": "KFAC, labels of the batch",
        "kfac[labels=exact]": "KFAC, all labels of the model",
        "kfac[joint_bias=True]": "KFAC, labels of the batch",
        "kfac[labels=exact,joint_bias=True]": "KFAC, all labels of the model",
        "kfra": "KFRA",
        "ekfac[labels=exact]": "EKFAC, all labels of the model",
        "ea_cg": "EA-CG, PCH-1",
    }.items()
)
REFERENCE = "torch SGD"
PEERS = (
    Peer(
        REFERENCE,
        "torch",
        "SGD with momentum, foreach",
        partial(by_gradients, "torch.optim.SGD[momentum=0.9,foreach=True]"),
        like="sgd",
        equal="all",
    ),
    *OURS,
    Peer("torch AdamW", "torch", "AdamW", partial(by_gradients, "torch.optim.AdamW"), differs=_AVERAGES),
    Peer("torch Muon", "torch", "Muon; biases by AdamW", partial(by_gradients, "torch.optim.Muon"), differs=_AVERAGES),
    Peer(
        "torch LBFGS",
        "torch",
        "L-BFGS, up to 20 gradients a step",
        partial(by_gradients, "torch.optim.LBFGS"),
        differs="several steps in one",
    ),
    Peer(
        "BackPACK KFAC",
        "backpack-for-pytorch",
        "KFAC, labels drawn from the model",
        partial(of_backpack, "KFAC"),
        like="kfac[labels=exact]",
        differs="its labels are drawn",
    ),
    Peer(
        "BackPACK KFLR",
        "backpack-for-pytorch",
        "KFAC, all labels of the model",
        partial(of_backpack, "KFLR"),
        like="kfac[labels=exact]",
        equal="all",
    ),
    Peer("BackPACK KFRA", "backpack-for-pytorch", "KFRA", partial(of_backpack, "KFRA"), like="kfra", equal="all"),
    Peer(
        "curvlinops KFAC",
        "curvlinops-for-pytorch",
        "KFAC, labels of the batch",
        partial(of_curvlinops, "KFACLinearOperator", "empirical", True),
        like="kfac[joint_bias=True]",
        equal="all",
    ),
    Peer(
        "curvlinops EKFAC",
        "curvlinops-for-pytorch",
        "EKFAC, all labels of the model",
        partial(of_curvlinops, "EKFACLinearOperator", "type-2", False),
        like="ekfac[labels=exact]",
        equal="all",
    ),
    Peer(
        "ASDL KFAC",
        "asdfghjkl",
        "KFAC, labels of the batch",
        partial(of_asdl, "KfacGradientMaker"),
        like="kfac",
        equal="weights",
        differs="a bias has the damping of its layer's matrix",
    ),
    Peer(
        "ASDL EKFAC",
        "asdfghjkl",
        "EKFAC by its name; it leaves the gradient as it is",
        partial(of_asdl, "EkfacGradientMaker"),
        like="sgd",
        equal="all",
    ),
    Peer(
        "NNGeometry KFAC",
        "nngeometry",
        "KFAC, all labels of the model",
        partial(of_nngeometry, "PMatKFAC"),
        like="kfac[labels=exact,joint_bias=True]",
        equal="all",
    ),
    Peer(
        "NNGeometry EKFAC",
        "nngeometry",
        "EKFAC, all labels of the model",
        partial(of_nngeometry, "PMatEKFAC"),
        like="ekfac[labels=exact]",
        differs="a layer's weights and biases have one matrix",
    ),
    Peer(
        "SINGD",
        "singd",
        "KFAC without inverses, labels of the batch",
        of_singd,
        like="kfac",
        differs="its inverses begin at I, and each step moves them a little",
    ),
    Peer(
        "HeavyBall SOAP",
        "heavyball",
        "SOAP, new eigenvectors in every step",
        partial(by_gradients, "heavyball.SOAP[precondition_frequency=1]"),
        differs=_AVERAGES,
    ),
    Peer("HeavyBall PSGDKron", "heavyball", "PSGD", partial(by_gradients, "heavyball.PSGDKron"), differs=_AVERAGES),
    Peer(
        "pytorch_optimizer Shampoo",
        "pytorch_optimizer",
        "Shampoo, new roots in every step",
        partial(by_gradients, "pytorch_optimizer.Shampoo"),
        differs=_AVERAGES,
    ),
    Peer(
        "pytorch_optimizer SOAP",
        "pytorch_optimizer",
        "SOAP, new eigenvectors in every step",
        partial(by_gradients, "pytorch_optimizer.SOAP[precondition_frequency=1]"),
        differs=_AVERAGES,
    ),
)
