"""Fixtures that all tests share: small problems in float64, and how closeness is judged."""

import multiprocessing
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any

import jaxtyping
import msgspec
import pytest
import torch
from hypothesis import settings
from torch import Tensor

# calls in optimizers.core are held against their annotations, with the shapes; an int may stand for a float
with jaxtyping.install_import_hook(
    "optimizers.core", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
):
    import optimizers.core.expectation  # noqa: F401 (it and what it needs are in no other import)
    from optimizers.core import CROSS_ENTROPY, FCNN, Activation, Criterion, Tape
    from optimizers.core.curvature import propagate

from suites.harness.cli import main
from suites.harness.training import parallel, resumable
from suites.harness.training.experiment import Settings, Task

OF_CORE = re.compile(
    "test_(cholesky|conformance|criteria|curvature|expectation|hessian|network|operators|optimizers|shapes|solvers)$"
)

settings.register_profile("kronbench", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("kronbench")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """For each worker of the tests, and each command that they start."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module", autouse=True)
def _shapes(request: pytest.FixtureRequest) -> None:
    """Checked in the tests of the core alone; those of the instrument would take a sixth longer."""
    jaxtyping.config.update("jaxtyping_disable", not OF_CORE.search(request.module.__name__))


@pytest.fixture(scope="session")
def without_repair() -> Callable[[Tape], list[Tensor]]:
    """Eq. (8) from E[hess_z C] down, with its means as they are: G^t of every layer, first to last."""

    @torch.no_grad()
    def recursion(tape: Tape) -> list[Tensor]:
        hessian = tape.mean_hessian
        factors = [hessian.diag() if hessian.ndim == 1 else hessian]
        for layer in tape.layers[:0:-1]:
            factors.insert(0, propagate(layer, factors[0], repair=lambda mean: mean))
        return factors

    return recursion


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Processes in a tenth of the time of a new one: forked off one that has imported, and nothing else.

    What torch imports with its first optimizer takes as long as torch itself.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "sklearn.model_selection", "suites.harness.training.parallel", "torch._dynamo"]
    )
    first = context.Process()
    first.start()
    first.join()
    return context


@pytest.fixture
def quick_workers(processes: BaseContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this machine that are forked off that process too."""
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", partial(parallel.ProcessPoolExecutor, context=processes))


@dataclass(frozen=True)
class Problem:
    """A small network, a criterion and one batch, in float64."""

    network: FCNN
    criterion: Criterion
    x: Tensor
    labels: Tensor

    def record(self) -> Tape:
        return self.network.record(self.criterion, self.x, self.labels)

    def gauss_newton(self) -> Tensor:
        """E[J^T hess_z C J] by torch.func: J of all parameters, weight and bias of each layer in turn."""
        names = [name for name, _ in self.network.named_parameters()]
        sizes = [parameter.numel() for parameter in self.network.parameters()]

        def logits(flat, x):
            parts = flat.split(sizes)
            shaped = {n: p.view_as(v) for n, p, v in zip(names, parts, self.network.parameters(), strict=True)}
            return torch.func.functional_call(self.network, shaped, (x,))

        flat = torch.cat([parameter.detach().flatten() for parameter in self.network.parameters()])
        total = 0
        for x, label in zip(self.x, self.labels, strict=True):
            J = torch.func.jacrev(logits)(flat, x)
            hessian = torch.func.hessian(lambda z, y=label: self.criterion.value(z[None], y[None])[0])(logits(flat, x))
            total = total + J.T @ hessian @ J
        return total / len(self.x)


@pytest.fixture(scope="session")
def problem() -> Callable[..., Problem]:
    """A builder of random problems; biases and inputs are far from zero, so that no term of a formula vanishes. Targets
    are class indices, or vectors in (0, 1) if the criterion takes vectors."""

    def build(
        sizes: Sequence[int] = (6, 5, 7, 4),
        activation: str | Activation = "sigmoid",
        criterion: Criterion = CROSS_ENTROPY,
        batch: int = 9,
        seed: int = 0,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        network = FCNN(sizes, activation, seed=seed, dtype=torch.float64)
        for linear in network.linears:
            linear.bias.data.normal_(0, 0.5, generator=generator)
        x = torch.randn(batch, sizes[0], generator=generator, dtype=torch.float64) + 0.3
        labels = torch.randint(sizes[-1], (batch,), generator=generator)
        if criterion.vectors:
            labels = torch.rand(batch, sizes[-1], generator=generator, dtype=torch.float64)
        return Problem(network, criterion, x, labels)

    return build


@pytest.fixture(scope="session")
def without_times() -> Callable[[Any], Any]:
    """A measuring point of a record without its seconds: what the same seed must give again, bit for bit."""

    def strip(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: strip(item) for name, item in value.items() if "seconds" not in name}

    return lambda point: strip(msgspec.to_builtins(point))


@pytest.fixture(scope="session")
def task() -> Task:
    """The digits with a small network."""
    return Task.load(Settings(device="cpu", network=(64, 16, 10)))


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """A check that ``||actual - expected|| <= tolerance ||expected||``, in the 2-norm of all entries."""

    def check(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
        assert actual.shape == expected.shape
        error, size = (actual - expected).norm().item(), expected.norm().item()
        assert error <= tolerance * size, f"relative error {error / size if size else error:.1e} above {tolerance:.0e}"

    return check


@pytest.fixture
def kronbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kronbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture
def dies_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[[Any], None]]:
    """For ``on_point``: Ctrl-C at the measuring point of an epoch, with a checkpoint at every point before."""
    monkeypatch.setattr(resumable, "CHECKPOINT_SECONDS", 0.0)

    def at(epoch: int) -> Callable[[Any], None]:
        def on_point(point: Any) -> None:
            if point.epoch == epoch:
                raise KeyboardInterrupt

        return on_point

    return at


@pytest.fixture
def refused(kronbench: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """The one line that the command line says of bad input; it prints nothing else, and the exit code is 2."""

    def call(*arguments: object) -> str:
        code, out, error = kronbench(*arguments)
        assert (code, out) == (2, "")
        assert len(error.strip().splitlines()) == 1
        return error

    return call
