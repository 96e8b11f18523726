"""Memory footprints: the bytes of one training step, by formula."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from optimizers import SGD
from optimizers.core import CRITERIA, FCNN, SecondOrder
from suites.harness.memory import ea_cg, eigenbasis, formulas, kfi, practised
from suites.harness.memory.formulas import USUAL, Formula, Kind, Net, second_order, sgd
from suites.harness.memory.ledger import Footprint, Ledger
from suites.harness.names import pick
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import DTYPES

FORMULAS: dict[str, Formula] = {
    **formulas.FORMULAS,
    **kfi.FORMULAS,
    **ea_cg.FORMULAS,
    **practised.FORMULAS,
    **eigenbasis.FORMULAS,
}  # by the names of parts


def predict(
    spec: str,
    sizes: tuple[int, ...],
    batch: int,
    dtype: str = "float32",
    device: str = "cpu",
    budget_bytes: int | None = None,
    library: bool = True,
    kind: Kind = USUAL,
) -> Footprint | None:
    """The footprint of an optimizer on a network; None if there is no formula for it.

    Args:
        spec: an optimizer as :func:`suites.harness.training.catalog.choose` reads it. There are formulas for SGD and
            for every composition of the package's curvatures and solvers.
        sizes: of the network, inputs first.
        device: ``cpu`` or ``cuda``; a CPU works on matrices by blocks.
        budget_bytes: above it KFI's ``auto`` falls back to ``rank_one``; it has no other effect.
        library: whether to count the copies inside library calls.
        kind: criterion and activation of the network.

    Raises:
        ValueError: for a bad specification, dtype or device.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device of a prediction must be cpu or cuda, got {device!r}")
    width = pick("dtype", dtype, DTYPES).itemsize
    optimizer = choose(spec).build(FCNN((1, 1)), CRITERIA[kind.criterion])
    net = Net(sizes, batch, device == "cpu", kind)
    ledger = Ledger(width, budget_bytes, library)
    parameters = sum(o * (i + 1) for i, o in net.layers)
    if type(optimizer) is SGD:
        ledger.hold(parameters=parameters, state=parameters)
        step = sgd
    elif isinstance(optimizer, SecondOrder):
        (group,) = optimizer.param_groups
        parts = {"curvature": optimizer.curvature, "solver": optimizer.solver, "update": optimizer.update}
        if any(part.name not in FORMULAS for part in parts.values()):
            return None
        ledger.hold(parameters=parameters)
        if "factor_interval" in group:
            ledger.hold(state=practised.state(net, group))
        if optimizer.solver.name == "ekfi":
            ledger.hold(state=eigenbasis.state(net, group["interval"], group["decay"]))
        step = partial(second_order, **{kind: _given(FORMULAS[part.name], group) for kind, part in parts.items()})
    else:
        return None
    step(net, ledger)
    return ledger.footprint()


def _given(formula: Formula, group: Mapping[str, Any]) -> Formula:
    """The formula with the hyper-parameters that it takes."""
    return partial(formula, **{name: group[name] for name in inspect.signature(formula).parameters if name in group})
