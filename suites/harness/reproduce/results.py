"""The results of the paper that can be computed again: what each shows, its cost at each scale, and how it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from suites.harness.names import pick
from suites.harness.reproduce import table1
from suites.harness.reproduce.figures import FIGURES
from suites.harness.reproduce.request import Reproduction, Request
from suites.harness.reproduce.tables2to5 import TABLES

_COSTS = {  # estimates come from 1.6 10^9 operations an image and iterate, and the steps between
    "cifar10": {
        "smoke": "seconds",
        "cpu": "4 minutes on an idle core",
        "paper": "19 hours on two cores, minutes on a GPU (estimates)",
    },
    "imagenet10": {
        "smoke": "seconds",
        "cpu": "half an hour on two cores (estimate)",
        "paper": "8 hours on two cores, minutes on a GPU (estimates)",
    },
}
_COSTS_OF_FIGURES = {  # of those without runs that another figure left
    "cifar10": {
        "smoke": "seconds",
        "cpu": "half an hour on two cores",
        "paper": "2 days on two cores, 2 hours on a GPU (estimates)",
    },
    "imagenet10": {
        "smoke": "seconds",
        "cpu": "an hour on two cores",
        "paper": "3 days on two cores, an hour on a GPU (estimates)",
    },
}
_COSTS_OF_TABLE1 = {"smoke": "seconds", "cpu": "3 minutes on an idle core", "paper": "an hour (estimate)"}


@dataclass(frozen=True)
class Result:
    """A table or figures of the paper.

    ``by_scale``: what it costs at each scale. ``prepare``: checks a request, raising ValueError with one line, and
    returns what runs it.
    """

    name: str
    shows: str
    by_scale: Mapping[str, str]
    prepare: Callable[[Request], Callable[[], Reproduction]]

    @property
    def costs(self) -> str:
        """What it costs at each scale, in a line."""
        return "; ".join(f"{scale}: {cost}" for scale, cost in self.by_scale.items())

    def done_in(self, folder: Path) -> list[Path]:
        """The folders below a folder of results that hold it."""
        pages = (f"*/{self.name}/table.md", f"*/{self.name}-*/table.md", f"*/*/*/{self.name}.md")
        return sorted(page.parent for pattern in pages for page in folder.glob(pattern))


RESULTS = {
    result.name: result
    for result in (
        Result(
            "table1",
            "time and space of KFAC, KFRA and EA-CG: the stated terms beside the growth measured",
            _COSTS_OF_TABLE1,
            table1.prepare,
        ),
        *(
            Result(name, f"{t.shows}; {t.criterion}, {t.dataset}", _COSTS[t.dataset], t.prepare)
            for name, t in TABLES.items()
        ),
        *(
            Result(name, f"{f.shows}; {f.criterion}, {f.dataset}", _COSTS_OF_FIGURES[f.dataset], f.prepare)
            for name, f in FIGURES.items()
        ),
    )
}


def prepare(name: str, request: Request) -> Callable[[], Reproduction]:
    """A function that computes the result called ``name``.

    Raises:
        ValueError: one line, if there is no such result, or the request is bad.
    """
    return pick("result", name, RESULTS).prepare(request)
