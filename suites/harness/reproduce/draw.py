"""Draws one of Figures 1-12: trains what it shows, and writes its picture, its data and a table of who reached what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from suites.harness.names import pick
from suites.harness.records.conventions import TARGETS
from suites.harness.records.record import Record, write_atomically
from suites.harness.reproduce.figures import FIGURE_SCALES, Figure, FigureScale, Method
from suites.harness.reproduce.request import Reproduction, Request, adapted
from suites.harness.reproduce.summary import stand_ins
from suites.harness.show.pictures import draw_curves
from suites.harness.show.progress import progress_bars
from suites.harness.show.tables import caption, comparison_table, markdown
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Settings, Task, resolve_device
from suites.harness.tuning.comparison import train
from suites.harness.tuning.search import tuned_setting

_DATA = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")  # of a measuring point, into the CSV


def prepare(figure: Figure, request: Request) -> Callable[[], Reproduction]:
    """Load what a figure needs; what is returned trains and draws it.

    Raises:
        ValueError: one line, if the scale, a number, the data or a tuned setting are not as they must be.
    """
    request.only(figure.name, "seeds", "epochs", "tuned", "resume", "workers")
    scale = pick("scale", request.scale, FIGURE_SCALES[figure.dataset])
    scale = adapted(scale, epochs=request.epochs, seeds=request.seeds)
    lines = lines_of(figure, scale, request.device, request.data_root, request.tuned)
    request.workers.check(lines[0].task.settings.device)
    return lambda: draw(figure, scale, lines, request)


@dataclass(frozen=True)
class Line:
    """A method of a figure with what it is trained on and with."""

    method: Method
    task: Task
    choice: Choice


def lines_of(
    figure: Figure, scale: FigureScale, device: str, data_root: Path | None, tuned: Path | None = None
) -> list[Line]:
    """What a figure trains: each method with its own defaults, or the setting that ``kronbench tune`` chose; on a GPU
    in CUDA graphs.

    Args:
        tuned: the folder that ``kronbench tune`` wrote.

    Raises:
        ValueError: one line, if the data are not there, or the setting of a method.
    """
    device = resolve_device(device)
    settings = Settings(scale.dataset or figure.dataset, figure.criterion, device=device, cuda_graph=device == "cuda")
    shared = Task.load(settings, data_root)
    lines = []
    for method in figure.methods:
        task, choice = shared, choose(method.spec)
        if tuned is not None:
            setting = tuned_setting(tuned, method.spec, shared.settings.dataset, shared.settings.criterion)
            task = replace(shared, settings=replace(shared.settings, batch_size=setting.batch_size))
            choice = setting.choice
        task.check(choice)
        lines.append(Line(method, task, choice))
    return lines


def draw(figure: Figure, scale: FigureScale, lines: Sequence[Line], request: Request) -> Reproduction:
    """Train and draw; the text is the title, the table and its caption.

    Writes ``<figure>.png``, ``.svg``, ``.csv`` (every measuring point) and ``.md`` into the folder of the request, and
    records to ``<data set>-<criterion>/runs`` in it, from where figures take each other's runs.
    """
    settings, output = lines[0].task.settings, request.output
    runs = [(line.task, line.choice, seed) for seed in range(scale.seeds) for line in lines]
    with progress_bars() as progress:
        folder = output / f"{settings.dataset}-{settings.criterion}" / "runs"
        records = train(runs, scale.epochs, folder, progress, request.data_root, request.resume, request.workers)
    groups = {line.method.label: records[place :: len(lines)] for place, line in enumerate(lines)}
    target, heading = TARGETS[settings.dataset], title(figure, scale, lines, request.tuned)
    dashed = {line.method.label for line in lines if line.method.dashed}
    draw_curves(groups, figure.against, output / figure.name, heading, target, dashed=dashed)
    write_atomically(output / f"{figure.name}.csv", points_frame(groups).to_csv(index=False, lineterminator="\n"))
    table = comparison_table(records, {}, target).drop(columns="step time / SGD")
    table.insert(0, "method", list(groups))
    text = f"# {heading}\n\n{markdown(table)}\n\n{caption(records, target)}\n"
    write_atomically(output / f"{figure.name}.md", text)
    return Reproduction(records, text)


def title(figure: Figure, scale: FigureScale, lines: Sequence[Line], tuned: Path | None) -> str:
    """What the figure is, and all that stands in for what the paper had."""
    task = lines[0].task
    batches = sorted({line.task.settings.batch_size for line in lines})
    found = [
        *stand_ins(task, figure.dataset),
        f"{scale.epochs} epochs",
        "1 seed" if scale.seeds == 1 else f"{scale.seeds} seeds",
        f"batch {', '.join(map(str, batches))}",
        "every method's defaults" if tuned is None else "every method tuned on held-out images",
        *(["steps in CUDA graphs"] if task.settings.cuda_graph else []),
    ]
    of = f"Figure {figure.name.removeprefix('figure')}: {figure.criterion}, {figure.dataset}"
    return f"{of} (scale {scale.name}: {'; '.join(found)})"


def points_frame(groups: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """Every measuring point of every run, one a row."""
    rows = [
        {
            "method": label,
            "optimizer": record.experiment["optimizer"],
            "seed": record.experiment["seed"],
            "status": record.status,
            "epoch": point["epoch"],
            "seconds": point["training_seconds"],
            "gradient_equivalents": point["gradient_equivalents"],
            **{name: point[name] for name in _DATA},
        }
        for label, group in groups.items()
        for record in group
        for point in record.points
    ]
    return pd.DataFrame(rows)
