"""MNIST's autoencoder as the demo of TNT trains it: the losses of the demo, beside those of the optimizers here.

Ren and Goldfarb, "Tensor Normal Training for Deep Learning Models" (NeurIPS 2021), demo.ipynb of their repository
renyiryry/tnt_neurips_2021: ReLU with a linear code layer, the sum of the binary cross-entropies of an image, batch
1000, no weight decay, one seed, 500 seconds on a GPU, and the learning rates and dampings of their search.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from suites.harness.data.problem import MissingError, find
from suites.harness.records.facts import Environment
from suites.harness.records.record import Record
from suites.harness.reproduce.request import Reproduction, Request, Scale
from suites.harness.show.captions import machine
from suites.harness.show.table import Column, Content, Table, markdown
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.tuning.comparison import train
from suites.harness.tuning.progress import progress_bars

MNIST, FASHION, CURVES = "mnist-autoencoder", "fashion-autoencoder", "curves-autoencoder"


@dataclass(frozen=True)
class Run:
    """The lowest losses of all epochs, on the training and on the test set, and the number of epochs."""

    train_loss: float
    test_loss: float
    epochs: float


PRINTED = {
    "SGD-m": Run(54.258, 65.580, 620),
    "Adam": Run(52.465, 62.347, 528),
    "KFAC": Run(54.066, 58.591, 304),
    "Shampoo": Run(52.974, 56.897, 315),
    "TNT": Run(52.397, 56.486, 269),
}
SPECS = {  # with the demo's settings
    "SGD-m": "sgd[lr=0.003,momentum=0.9]",
    "Adam": "torch.optim.Adam[lr=0.0001,eps=0.0001]",
    # deviates: pi comes from the traces, where the demo has 1; the momentum is that of the steps, not of the gradients
    "KFAC": ("kfac[lr=0.003,damping=0.3,labels=sampled,decay=0.9,inverse_interval=20,joint_bias=True,momentum=0.9]"),
}


@dataclass(frozen=True)
class TimeScale(Scale):
    """The training time of each method. ``problem``: stands in for MNIST."""

    seconds: float
    seeds: int = 1
    problem: str | None = None


SCALES = {
    scale.name: scale
    for scale in (TimeScale("smoke", 1, problem=CURVES), TimeScale("cpu", 120), TimeScale("paper", 500))
}


class TNTMnist:
    """See :class:`suites.harness.reproduce.request.Result`."""

    name = "tnt-mnist"
    shows = f"losses of {', '.join(SPECS)} beside those that the demo of TNT printed; bernoulli, {MNIST}"
    costs: Mapping[str, str] = {
        "smoke": "seconds",
        "cpu": "10 minutes",
        "paper": "half an hour, and a GPU for as many epochs as the demo had",
    }

    def prepare(self, request: Request) -> Callable[[], Reproduction]:
        scale = request.scaled(self.name, SCALES)
        task = load(scale, request)
        for spec in SPECS.values():
            task.check(choose(spec), None)
        return lambda: reproduce(scale, task, request)


RESULTS = {TNTMnist.name: TNTMnist()}


def load(scale: TimeScale, request: Request) -> Task:
    """The demo's task; on Fashion-MNIST if there is no MNIST.

    Raises:
        ValueError: one line, if both are missing, or one is damaged.
    """
    absent = []
    for problem in [scale.problem] if scale.problem else [MNIST, FASHION]:
        hidden = find(problem).network[1:-1]
        settings = Settings(
            problem,
            activation=tuple("linear" if size == min(hidden) else "relu" for size in hidden),
            initialization="torch",  # deviates: of the weights alone; biases are zero
            batch_size=1000,
            device=request.device,
            budget_seconds=scale.seconds,
        )
        try:
            return Task.load(settings, request.data_root)
        except MissingError as error:
            absent.append(error)
    raise absent[0]


def reproduce(scale: TimeScale, task: Task, request: Request) -> Reproduction:
    """Train each method for the time of the scale. Writes table.md, table.csv, config.toml, and the records."""
    runs = [(task, choose(spec), seed) for seed in range(scale.seeds) for spec in SPECS.values()]
    with progress_bars() as progress:
        records = train(runs, None, request.output / "runs", progress, request.data_root, request.resume)
    groups = {method: records[place :: len(SPECS)] for place, method in enumerate(SPECS)}
    here = {method: medians(group) for method, group in groups.items() if all(record.completed for record in group)}
    if not here:
        return Reproduction(records)
    stands_in = "" if task.problem.name == MNIST else f"{task.problem.name} in place of {MNIST}; "
    seeds = "1 seed" if scale.seeds == 1 else f"{scale.seeds} seeds"
    title = f"The demo of TNT, {MNIST} (scale {scale.name}: {stands_in}{scale.seconds:g} s of training; {seeds})"
    table = losses(here)
    text = "\n\n".join((f"# {title}", markdown(table), said(here, not stands_in, records[0].environment))) + "\n"
    page = request.output / "table.md"
    request.write(TNTMnist.name, scale, text, {"table": table}, page, device=task.settings.device)
    return Reproduction(records, text)


def medians(records: Sequence[Record]) -> Run:
    """Medians over seeds."""

    def lowest(field: str) -> float:
        return median(min(filter(None, (getattr(point, field) for point in one.points))) for one in records)

    return Run(lowest("train_loss"), lowest("test_loss"), median(one.points[-1].epoch for one in records))


def losses(here: Mapping[str, Run]) -> Table:
    """The losses of the demo and those from here, one row a method."""
    columns = [Column("method", "method")]
    rows: dict[str, dict[str, Content]] = {method: {"method": method} for method in PRINTED}
    for by, runs in (("demo", PRINTED), ("here", here)):
        for key, form in (("train_loss", ".2f"), ("test_loss", ".2f"), ("epochs", ".0f")):
            columns.append(Column(f"{key}_{by}", f"{key.replace('_', ' ')}, {by}", form))
            for method, run in runs.items():
                rows[method][f"{key}_{by}"] = float(getattr(run, key))
    columns.append(Column("setting", "setting here"))
    return Table(columns, [{**row, "setting": SPECS.get(method)} for method, row in rows.items()])


def said(here: Mapping[str, Run], same_images: bool, environment: Environment) -> str:
    """The caption: what can be compared, and the order of the test losses."""
    printed, own = (" < ".join(sorted(here, key=lambda method: runs[method].test_loss)) for runs in (PRINTED, here))
    compared = "" if same_images else "The images are not the demo's, so only the order can be compared. "
    return (
        "The lowest loss of all epochs: the mean over images of the sum over pixels; in the demo after 500 s on its "
        f"GPU, here after the seconds in the title. {compared}Order of the test losses in the demo: {printed}. "
        f"Here: {own}. {machine(environment)}."
    )
