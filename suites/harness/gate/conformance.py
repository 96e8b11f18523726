"""Conformance: checks that every optimizer should pass, with results in words. ``kronbench check`` and the tests run
them.

A check is a function of a choice and a device. It returns a sentence about what passed, or raises :class:`Failed` or
:class:`NotChecked`. All checks run on the digits and a small network.
"""

import gc
import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from optimizers.core import CROSS_ENTROPY, FCNN, SQUARED_ERROR, Tape, TapeOptimizer
from optimizers.core.ranges import Range
from suites.harness.measure.contract import rest_of
from suites.harness.measure.limits import limited
from suites.harness.measure.live_bytes import LiveBytes, state_bytes
from suites.harness.measure.step import WARM_UP_STEPS, CapturedStep, Step
from suites.harness.names import said
from suites.harness.records.facts import Option
from suites.harness.training.catalog import Choice
from suites.harness.training.experiment import Settings, Task

Outcome = Literal["passed", "FAILED", "not checked"]
_NETWORK = (64, 20, 10)
_STEPS = 40
_SMALL_BYTES = 1024  # allowed for constants beside the state


class Failed(Exception):
    """The error that a check found, for the author of the optimizer."""


class NotChecked(Exception):
    """The reason why a check cannot run."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, with a sentence."""

    check: str
    outcome: Outcome
    says: str


def conformance(choice: Choice, device: str, seconds: float) -> Iterator[Finding]:
    """Run all checks, and yield a finding for each.

    Args:
        seconds: a check that takes longer fails.
    """
    for name, check in CHECKS.items():
        yield Finding(name, *_outcome(check, choice, device, seconds))


def _outcome(check: Callable[[Choice, str], str], choice: Choice, device: str, seconds: float) -> tuple[Outcome, str]:
    try:
        with limited(seconds, "it took"):
            return "passed", check(choice, device)
    except NotChecked as reason:
        return "not checked", str(reason)
    except Failed as error:
        return "FAILED", str(error)
    except (Exception, SystemExit) as error:
        return "FAILED", said(error)


def refuses_bad_options(choice: Choice, device: str) -> str:
    """The constructor refuses a learning rate below 0, and values outside the optimizer's ``ranges``."""
    network = FCNN(_NETWORK, device=device)
    ranges: Mapping[str, Range] = getattr(choice.build(network, CROSS_ENTROPY), "ranges", {})
    bad = {name: _misfit(ranges[name]) for name in choice.entry.options if name in ranges}
    if "lr" in choice.entry.options:
        bad.setdefault("lr", -1.0)
    if not bad:
        raise NotChecked("it has no option lr and says nothing of ranges")
    taken = [f"{name}={value}" for name, value in bad.items() if _builds(choice, {name: value}, network)]
    if taken:
        raise Failed(f"it takes {', '.join(taken)}; raise a ValueError in the constructor")
    return f"it refuses {', '.join(f'{name}={value}' for name, value in bad.items())}"


def _builds(choice: Choice, options: Mapping[str, Option], network: FCNN) -> bool:
    try:
        replace(choice, options={**choice.options, **options}).build(network, CROSS_ENTROPY)
    except ValueError:
        return False
    return True


def descends_a_quadratic(choice: Choice, device: str) -> str:
    """Steps lower the squared error of a linear layer, with all samples in each step."""
    generator = torch.Generator().manual_seed(0)
    x, targets = torch.rand(60, 8, generator=generator).to(device), torch.eye(3, device=device).repeat(20, 1)
    network = FCNN((8, 3), device=device)
    step = Step(network, choice.build(network, SQUARED_ERROR), SQUARED_ERROR, itertools.repeat((x, targets)))
    return _lowered(step)


def learns(choice: Choice, device: str) -> str:
    """Steps on the digits lower the loss of a batch."""
    return _lowered(_step(choice, device))


def works_in_float64(choice: Choice, device: str) -> str:
    """It learns in float64 too, and parameters stay float64."""
    step = _step(choice, device, dtype="float64")
    said = _lowered(step)
    if any(parameter.dtype != torch.float64 for parameter in step.network.parameters()):
        raise Failed("a parameter is no longer float64")
    return said


def is_deterministic(choice: Choice, device: str) -> str:
    """The same seed gives the same bits."""
    one, other = (_after(5, _step(choice, device, seed=3)) for _ in range(2))
    _same_bits(one, other, "two runs of one seed")
    return "two runs of one seed have the same bits"


def resumes(choice: Choice, device: str) -> str:
    """A ``state_dict`` goes through a file in the middle of a run, and the next steps give the same bits."""
    step, file = _step(choice, device), io.BytesIO()
    _after(3, step)
    torch.save([step.network.state_dict(), step.optimizer.state_dict(), torch.get_rng_state()], file)
    whole = _after(3, step)
    resumed, fresh = _step(choice, device, seed=1), _step(choice, device)
    file.seek(0)
    network, optimizer, random = torch.load(file, weights_only=True)
    resumed.network.load_state_dict(network)
    resumed.optimizer.load_state_dict(optimizer)
    torch.set_rng_state(random)
    resumed.batches = itertools.islice(fresh.batches, 3, None)
    _same_bits(whole, _after(3, resumed), "a run that was resumed from state_dict() and one that was not")
    return "a run that is resumed from state_dict() has the same bits as one that is not"


def follows_a_scheduler(choice: Choice, device: str) -> str:
    """At a learning rate of zero nothing moves; before that, it does."""
    step = _step(choice, device)
    if any("lr" not in group for group in step.optimizer.param_groups):
        raise NotChecked("its param_groups have no lr")
    if step.takes_closure:
        raise NotChecked("a search along a line goes as far as it likes")
    scheduler = torch.optim.lr_scheduler.LambdaLR(step.optimizer, lambda epoch: 1.0 if epoch == 0 else 0.0)
    before = _copies(step)
    moved = _after(3, step)
    if all(map(torch.equal, before, moved)):
        raise Failed("three steps move nothing")
    scheduler.step()
    if not all(map(torch.equal, moved, _after(1, step))):
        raise Failed('it moves at a learning rate of 0; read group["lr"] in every step')
    return "at a learning rate of 0 nothing moves"


def stays_finite(choice: Choice, device: str) -> str:
    """Parameters stay finite for inputs of zero, and for a batch that is fitted perfectly."""
    task = _task(device, "float32", "relu")
    zeros = (torch.zeros(8, 64, device=device), torch.zeros(8, dtype=torch.int64, device=device))
    for bias in (0.0, 1000.0):  # with a logit of 1000, the other classes have the probability exp(-1000) = 0
        step = task.step(choice, seed=0)
        with torch.no_grad():
            step.network.linears[-1].bias[0] = bias
        step.batches = itertools.repeat(zeros)
        if not all(parameter.isfinite().all() for parameter in _after(3, step)):
            raise Failed(f"parameters are not finite after {'inputs of 0' if not bias else 'a gradient of 0'}")
    return "inputs of 0 and gradients of 0 leave finite parameters"


def leaves_the_tape(choice: Choice, device: str) -> str:
    """A step writes to parameters and state only, not to the tape."""
    step = _step(choice, device)
    if not isinstance(step.optimizer, TapeOptimizer):
        raise NotChecked("it takes no tape")
    _after(1, step)
    tape = step.record()
    before = {name: tensor.clone() for name, tensor in _tensors(tape).items()}
    step.update(tape)
    changed = [name for name, tensor in _tensors(tape).items() if not torch.equal(tensor, before[name])]
    if changed:
        raise Failed(f"it writes to the tape: {', '.join(changed)}")
    return "the tensors of the tape are as they were"


def evaluates_where_it_is(choice: Choice, device: str) -> str:
    """A closure that always evaluates gives the same steps as one that takes the first gradient from the tape."""
    plain, always = _step(choice, device), _step(choice, device)
    if not plain.takes_closure:
        raise NotChecked("its step needs no closure")
    counter = itertools.count()
    always._versions = lambda: [next(counter)]
    one, other = _after(3, plain), _after(3, always)
    if not all(map(torch.equal, one, other)):
        raise Failed("it changes parameters through .data before its first closure; do it under torch.no_grad()")
    return f"{plain.passes['evaluations'] / 3:.1f} evaluations a step beside the first"


def comes_back_from_evaluation(choice: Choice, device: str) -> str:
    """``eval()`` and then ``train()`` leave the parameters as they were, up to rounding."""
    step = _step(choice, device)
    if not callable(getattr(step.optimizer, "eval", None)):
        raise NotChecked("it has no eval() and train()")
    before = _after(3, step)
    with step.evaluating():
        pass
    distance = _distance(_copies(step), before)
    if not distance < 1e-3:
        raise Failed(f"eval() and train() move the parameters by {distance:.1e} of their size")
    return "eval() and train() leave the parameters as they were"


def stays_on_its_device(choice: Choice, device: str) -> str:
    """Parameters and state stay on the device. Tensors of one number may lie on the CPU."""
    step = _step(choice, device)
    _after(3, step)
    leaves = [leaf for leaf in tree_leaves(dict(step.optimizer.state)) if isinstance(leaf, Tensor)]
    elsewhere = {leaf.device.type for leaf in [*step.network.parameters(), *leaves] if leaf.numel() > 1} - {device}
    if elsewhere:
        raise Failed(f"parameters are on {device}, but some of its tensors on {', '.join(elsewhere)}")
    return f"all tensors are on {device}"


def has_honest_bytes(choice: Choice, device: str) -> str:
    """All tensors that outlive a step are in ``state``, where they are counted and saved."""
    step = _step(choice, device).repeat_batch()
    before = state_bytes(step.optimizer)
    with LiveBytes() as live:
        _after(8, step)
        for parameter in step.network.parameters():
            parameter.grad = None
        getattr(step.optimizer, "solutions", []).clear()  # the solutions of the last step
        gc.collect()
        hidden = before + live.current - state_bytes(step.optimizer)
    if hidden > _SMALL_BYTES:
        raise Failed(f"{hidden} bytes outlive 8 steps outside of state, where nothing counts or saves them")
    return f"{state_bytes(step.optimizer)} bytes of state, nothing beside it"


def does_not_wait(choice: Choice, device: str) -> str:
    """No step reads a number from the device."""
    if device != "cuda":
        raise NotChecked("a CPU has nothing to wait for; run it where there is a CUDA GPU")
    if says_that_it_waits(choice.build(FCNN(_NETWORK), CROSS_ENTROPY)):
        raise NotChecked("it says that its steps wait for the device")
    try:
        step_without_waiting(_step(choice, device))
    except RuntimeError as error:
        raise Failed(f"the host waits for the device: {str(error).splitlines()[0]}") from error
    return "no step waits for the device"


def can_be_captured(choice: Choice, device: str) -> str:
    """An optimizer with the option ``capturable`` takes the same steps in a CUDA graph."""
    eager, captured = _step(choice, device), _step(choice, device)
    if not knows_capturable(eager.optimizer):
        raise NotChecked("it does not claim it: it has no option capturable")
    if device != "cuda":
        raise NotChecked("it claims it; run it where there is a CUDA GPU")
    steps = WARM_UP_STEPS + 3
    distance = _distance(_after(steps, CapturedStep(captured)), _after(steps, eager))
    if not distance < 1e-3:
        raise Failed(f"captured steps end {distance:.1e} of the parameters' size away")
    return "captured steps give the same parameters"


CHECKS: dict[str, Callable[[Choice, str], str]] = {
    "refuses bad options": refuses_bad_options,
    "descends a quadratic": descends_a_quadratic,
    "learns the digits": learns,
    "float64": works_in_float64,
    "same seed, same bits": is_deterministic,
    "state_dict resumes": resumes,
    "follows schedulers": follows_a_scheduler,
    "stays finite": stays_finite,
    "leaves the tape": leaves_the_tape,
    "closure": evaluates_where_it_is,
    "eval() and train()": comes_back_from_evaluation,
    "device": stays_on_its_device,
    "honest bytes": has_honest_bytes,
    "no wait for the host": does_not_wait,
    "CUDA graph": can_be_captured,
}


def says_that_it_waits(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a :class:`TapeOptimizer` says that its steps wait for the device."""
    return getattr(optimizer, "waits", False)


def knows_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer has the option ``capturable``, like PyTorch's own."""
    return all("capturable" in group for group in optimizer.param_groups)


def step_without_waiting(step: Step) -> None:
    """Take a step on a CUDA device, after some warm-up steps.

    Raises:
        RuntimeError: if the step waits for the device.
    """
    _after(WARM_UP_STEPS, step.repeat_batch())
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode(before)


@cache
def _task(device: str, dtype: str, activation: str) -> Task:
    return Task.load(Settings(device=device, dtype=dtype, network=_NETWORK, activation=activation))


def _step(choice: Choice, device: str, seed: int = 0, dtype: str = "float32") -> Step:
    torch.manual_seed(seed)
    return _task(device, dtype, "sigmoid").step(choice, seed)


def _copies(step: Step) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in step.network.parameters()]


def _after(steps: int, step: Step) -> list[Tensor]:
    for _ in range(steps):
        step()
    return _copies(step)


def _lowered(step: Step) -> str:
    """The loss of a batch before and after some steps."""
    first = step.record().loss.item()
    _after(_STEPS, step)
    with step.evaluating():
        last = step.record().loss.item()
    if not (math.isfinite(last) and last < first):
        raise Failed(f"the loss of a batch went from {first:.4g} to {last:.4g} in {_STEPS} steps")
    return f"the loss of a batch went from {first:.4g} to {last:.4g} in {_STEPS} steps"


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The distance of two lists of tensors, relative to the norm of the other."""
    a, b = (torch.cat([tensor.flatten() for tensor in side]).double() for side in (one, other))
    return ((a - b).norm() / b.norm()).item()


def _same_bits(one: Sequence[Tensor], other: Sequence[Tensor], what: str) -> None:
    if not all(map(torch.equal, one, other)):
        raise Failed(f"{what} differ by {_distance(one, other):.1e} of the parameters' size")


def _tensors(tape: Tape) -> dict[str, Tensor]:
    """The tensors that a tape has from the beginning, by name."""
    found: dict[str, Tensor | None] = {"logits": tape.logits, "labels": tape.labels}
    for number, layer in enumerate(tape.layers, start=1):
        held = {"input": layer.input, "delta": layer.delta, "pullback": layer.pullback}
        found |= {f"{name} of layer {number}": tensor for name, tensor in held.items()}
        found[f"preactivation before layer {number}"] = layer.fed_by and layer.fed_by[1]
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def remark(choice: Choice) -> str | None:
    """A sentence about the parameters that it does not take; None if it takes all."""
    rest = rest_of(choice.build(FCNN(_NETWORK), CROSS_ENTROPY))
    return rest and f"it takes matrices alone; biases are trained by {rest}"


def _misfit(fits: Range) -> Option:
    """A value outside a range."""
    return next(value for value in (-2, 2, "nonsense", math.nan) if not _takes(fits, value))


def _takes(fits: Range, value: object) -> bool:
    try:
        return fits.fits(value)
    except TypeError:
        return False
