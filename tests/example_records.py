"""Facts of records for tests: what is not under test is filled in."""

from dataclasses import replace

from suites.harness.data.tuned import Search, Tuned
from suites.harness.records.facts import End, Environment, Experiment, Git, Header, Phase, Point
from suites.harness.records.journal import JournalWriter

ENVIRONMENT = Environment(
    git=Git(commit="0123456789abcdef", dirty=False),
    kronbench="0.1.0",
    python="3.11",
    torch="2.14",
    blas="MKL",
    platform="Linux",
    cpu="EPYC",
    cores=2,
    threads=2,
    gpu=None,
)
EXPERIMENT = Experiment(
    optimizer="sgd",
    options={"lr": 0.1},
    seed=0,
    epochs=2,
    dataset="digits",
    criterion="cross-entropy",
    network=(64, 10),
    activation="sigmoid",
    batch_size=100,
    dtype="float32",
    device="cpu",
    cuda_graph=False,
    validation=0.0,
    train_images=1437,
    test_images=360,
    synthetic=False,
)

TUNED = Tuned(
    optimizer="sgd",
    options={"lr": 1.0},
    problem=EXPERIMENT.dataset,
    criterion=EXPERIMENT.criterion,
    network=EXPERIMENT.network,
    activation=EXPERIMENT.activation,
    batch_size=EXPERIMENT.batch_size,
    accuracy=0.9,
    search=Search(
        space={"lr": "0.001:10:log"},
        trials=3,
        runs=3,
        epochs=9,
        seconds=1.5,
        gradient_equivalents=20.0,
        rule="the best",
    ),
)


def header(environment=ENVIRONMENT, at_a_time=1, **experiment):
    return Header(
        experiment=replace(EXPERIMENT, **experiment), environment=environment, source=None, at_a_time=at_a_time
    )


def point(epoch, *, steps=14, train_loss=1.0, test_accuracy=0.1, **more):
    facts = {
        "training_seconds": 0.1 * epoch,
        "evaluation_seconds": 0.01 * epoch,
        "train_accuracy": test_accuracy,
        "test_loss": train_loss,
        "gradient_equivalents": 14.0 * epoch,
    }
    return Point(
        step=steps * epoch, epoch=epoch, train_loss=train_loss, test_accuracy=test_accuracy, **{**facts, **more}
    )


def phase(seconds):
    return Phase(seconds_mean=seconds, seconds_p99=seconds, operations_mean=1.0, operations_p99=1.0)


def write(path, header, points, status="finished", reason=None, **end):
    """Write a record whole."""
    with JournalWriter(path, header) as record:
        for one in points:
            record.point(one)
        record.end(End(status=status, reason=reason, **end))


def as_schema_2(text):
    """The text of a record as the schema before had it: without a digest, so that it may be changed."""
    *lines, _ = text.splitlines(keepends=True)
    return "".join(lines).replace('"schema":3', '"schema":2', 1)
