"""The best settings trained again: on all training images and fresh seeds, and only now evaluated on the test set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suites.harness.analysis.metrics import METRICS
from suites.harness.records.record import Record, write_atomically
from suites.harness.show.captions import measured
from suites.harness.show.comparison import median_cell, metric_cell, metric_column, statuses
from suites.harness.show.table import Column, Content, Table, comma_separated, markdown
from suites.harness.training.experiment import Settings
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.tuning.search import Tuned


@dataclass(frozen=True)
class Rerun:
    """What the best settings gave."""

    records: list[Record]
    table: Table
    caption: str


def rerun(
    settings: Settings,
    tuned: Sequence[Tuned],
    seeds: int,
    epochs: int,
    target: float,
    output: Path,
    data_root: Path | None = None,
    workers: Workers | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
) -> Rerun:
    """Train the best setting of each method with seeds 0 ... seeds - 1, and write records, table.md and table.csv.

    Args:
        settings: of the search; each method takes the batch size that was found for it.
        target: test accuracy to reach.
    """
    whole = replace(settings, validation=0.0)
    jobs = [
        Job(
            replace(whole, batch_size=found.setting.batch_size),
            data_root,
            found.setting.choice.given,
            seed,
            epochs,
            output / "runs",
        )
        for seed in range(seeds)
        for found in tuned
    ]
    done = run_jobs(jobs, workers or Workers(), on_done)
    columns = [
        Column("setting", "setting"),
        Column("batch", "batch"),
        *(metric_column(key, target) for key in ("test_accuracy", "train_loss", "seconds")),
        Column("seconds_with_tuning", "with tuning", ".3g"),
        metric_column("gradients", target),
        Column("gradients_with_tuning", "gradient-equivalents with tuning", ".0f"),
        Column("runs", "runs"),
    ]
    table = Table(columns, [_row(one, done[place :: len(tuned)], target) for place, one in enumerate(tuned)])
    caption = (
        f"{measured(done, target)} Settings: the best on {settings.validation:.0%} of the training images, held "
        "out; trained anew on all of them, with seeds that the search did not take. With tuning: and all runs of the "
        "search for it."
    )
    write_atomically(output / "table.csv", comma_separated(table))
    write_atomically(output / "table.md", f"{markdown(table)}\n\n{caption}\n")
    return Rerun(done, table, caption)


def _row(tuned: Tuned, records: list[Record], target: float) -> dict[str, Content]:
    seconds, gradients = (
        [cost for record in records if (cost := METRICS[key].of(record, target)) is not None]
        for key in ("seconds", "gradients")
    )
    return {
        "setting": tuned.setting.choice.spec,
        "batch": tuned.setting.batch_size,
        **{key: metric_cell(key, records, target) for key in ("test_accuracy", "train_loss", "seconds", "gradients")},
        "seconds_with_tuning": median_cell([tuned.training_seconds + own for own in seconds]),
        "gradients_with_tuning": median_cell([tuned.gradient_equivalents + own for own in gradients]),
        "runs": statuses(records),
    }
