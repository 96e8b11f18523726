"""The lines of a record, as types. A line that does not fit its type is refused when it is read.

A number that is not finite is written as null and read as None. A field that older schemas lack is None for them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from msgspec import Meta

X = TypeVar("X")

SCHEMA = 3
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Size: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Option: TypeAlias = bool | int | float | str | tuple[float, ...] | None
Status: TypeAlias = Literal["finished", "diverged", "at chance", "failed", "stopped", "skipped"]
Tuning: TypeAlias = Literal["tuned", "untuned", "given"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """The commit of the code; ``dirty``: there were uncommitted changes."""

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU and its driver; what the driver does not tell is None."""

    name: str
    memory_bytes: int
    cuda: str | None
    tf32: bool
    driver: str | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_celsius: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    memory_used_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and the software; None where a thing cannot be known.

    packages: versions of the packages, other than torch, that the optimizer comes from.
    """

    git: Git | None
    kronbench: str | None
    python: str | None
    torch: str | None
    blas: str | None
    platform: str | None
    cpu: str | None
    cores: int | None
    threads: int | None
    gpu: Gpu | None
    packages: dict[str, str] = field(default_factory=dict)

    @property
    def processor(self) -> str:
        """The GPU, or else the CPU."""
        return (self.gpu and self.gpu.name) or self.cpu or "?"

    @property
    def commit(self) -> str:
        """The commit in ten digits, and whether there were changes; empty where there is none."""
        return f"{self.git.commit[:10]}{' with changes' if self.git.dirty else ''}" if self.git else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All that decides the numbers of a run, apart from code and environment.

    epochs, budget_seconds: the run ends after this number of epochs, or at the first measuring point after this time of
        training, whichever comes first; None is no limit.
    activation: one for all hidden layers, or one for each.
    schedule: of the learning rate, unless the optimizer's options name one.
    validation: the share of the training images that is held out and takes the place of the test set.
    """

    optimizer: str
    options: dict[str, Option]
    seed: int
    epochs: Count | None
    dataset: str
    criterion: str
    network: Annotated[tuple[Size, ...], Meta(min_length=2)]
    activation: str | tuple[str, ...]
    initialization: str = "xavier"
    batch_size: Size
    dtype: str
    device: str
    cuda_graph: bool = False
    validation: Share | None = None
    schedule: str = "constant"
    budget_seconds: Amount | None = None
    train_images: Size
    test_images: Size
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Seconds and operations of one phase of a step, over the steps since the last point."""

    seconds_mean: Amount
    seconds_p99: Amount
    operations_mean: Amount
    operations_p99: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverHealth:
    """How the solves since the last point went: one number a step, over all layers; ``pi``, Eq. (12), one a layer."""

    iterations_mean: tuple[Amount, ...]
    iterations_max: tuple[Count, ...]
    residual_max: tuple[float | None, ...]
    failed_factorizations: tuple[Count, ...]
    negative_curvature: tuple[Count, ...]
    not_finite: tuple[Count, ...] | None = None
    ill_conditioned: tuple[Count, ...] | None = None
    pi: tuple[float | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeCurvature:
    """What PCH repairs, on the first batch of the training images.

    eigenvalues: the number of negative eigenvalues of E[hess_z C]. share: of these in the sum of absolute values.
    bends: for each hidden layer, the share of negative entries in E[phi'' * (W^tT delta^t)].
    """

    eigenvalues: Count
    share: Share
    bends: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measuring point. Where targets are vectors there are no accuracies. Schema 1 counts no operations, passes and
    phases; some of schema 2 lack negative curvature.
    """

    step: Count
    epoch: Count
    training_seconds: Amount
    evaluation_seconds: Amount
    train_loss: float | None
    train_accuracy: Share | None
    test_loss: float | None
    test_accuracy: Share | None
    negative_curvature: NegativeCurvature | None = None
    phases: dict[str, Phase] = field(default_factory=dict)
    forwards: Count | None = None
    backwards: Count | None = None
    cg_iterations: Count | None = None
    factorizations: Count | None = None
    gradient_equivalents: Amount | None = None
    solver: SolverHealth | None = None


class Goal(NamedTuple):
    """The metric that judges runs: a field of :class:`Point`, its unit, and whether larger is better."""

    field: str
    unit: str
    larger_is_better: bool

    def better(self, value: float | None, other: float) -> bool:
        """Whether a value is better than another. None stands for a number that is not finite, and never is."""
        return value is not None and (value > other if self.larger_is_better else value < other)

    def reached(self, value: float | None, target: float) -> bool:
        """Whether a value is as good as a target."""
        return value == target or self.better(value, target)

    def hardest_first(self, targets: Iterable[float]) -> list[float]:
        """The targets, sorted."""
        return sorted(targets, reverse=self.larger_is_better)


GOALS = {
    "test accuracy": Goal("test_accuracy", "share of the test set", True),
    "test loss": Goal("test_loss", "mean of the criterion over the test set", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFacts:
    """What a problem measures, and the text of a user's own file."""

    metric: str
    unit: str
    larger_is_better: bool
    targets: Annotated[tuple[float, ...], Meta(min_length=1)]
    source: str | None


@dataclass(frozen=True, kw_only=True)
class Header(Generic[X]):
    """The first line.

    run, code: identities of the run and of the algorithms, see :mod:`suites.harness.training.identity`.
    at_a_time: the number of runs that shared the machine.
    tuning: ``tuned``: a search found the options for this task; ``untuned``: they are the defaults; ``given``: a
        user's.
    edge: the options whose best value lay at the edge of the search. trials: the number of settings it tried.
    """

    schema: int = SCHEMA
    experiment: X
    environment: Environment
    source: str | None = None
    run: str | None = None
    code: str | None = None
    at_a_time: Size = 1
    problem: ProblemFacts | None = None
    tuning: Tuning | None = None
    edge: tuple[str, ...] = ()
    trials: Size | None = None

    @property
    def alone(self) -> bool:
        """Whether the run had the machine to itself. If not, its seconds are not used."""
        return self.at_a_time == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run ended and why, and what is known only then.

    ended: the time in UTC, ISO 8601.
    resumed: the numbers of the points from which the run was resumed.
    rest: the optimizer of the parameters that this one does not take.
    """

    status: Status
    reason: str | None = None
    ended: str | None = None
    traceback: str | None = None
    warnings: tuple[str, ...] = ()
    resumed: tuple[Count, ...] = ()
    state_bytes: Count | None = None
    peak_state_bytes: Count | None = None
    gradient_operations: Count | None = None
    rest: str | None = None
