"""What of the paper can be reproduced by name: what it shows, what it costs at each scale, whether it is done here."""

from dataclasses import dataclass

from suites.harness.names import pick
from suites.harness.reproduce.tables import SCALES, TABLES, Table

_COSTS = {  # estimates come from 1.3 10^9 operations an image and iterate, and the steps between
    "cifar10": {
        "smoke": "seconds",
        "cpu": "3 minutes on an idle core",
        "paper": "15 hours on two cores, minutes on a GPU (estimates)",
    },
    "imagenet10": {
        "smoke": "seconds",
        "cpu": "a quarter of an hour on two cores (estimate)",
        "paper": "6 hours on two cores, minutes on a GPU (estimates)",
    },
}


@dataclass(frozen=True)
class Result:
    """A table or the figures of the paper; without a ``table`` it is not done here yet."""

    name: str
    shows: str
    table: Table | None = None

    @property
    def costs(self) -> str:
        """What it costs at each scale."""
        if self.table is None:
            return "not done here yet"
        return "; ".join(f"{scale}: {_COSTS[self.table.dataset][scale]}" for scale in SCALES)


RESULTS = {
    result.name: result
    for result in (
        Result("table1", "the paper's first table"),
        *(Result(name, f"{t.shows}; {t.criterion}, {t.dataset}", t) for name, t in TABLES.items()),
        Result("figures", "the paper's curves of training"),
    )
}


def find(name: str) -> Table:
    """The table called ``name``.

    Raises:
        ValueError: one line, if there is no such result, or it is not done here yet.
    """
    result = pick("result", name, RESULTS)
    if result.table is None:
        raise ValueError(f"{name} is not done here yet: there are {', '.join(TABLES)}")
    return result.table
