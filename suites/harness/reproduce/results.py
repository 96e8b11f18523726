"""What of the paper can be reproduced by name: what it shows, what it costs at each scale, and how it is run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from suites.harness.names import pick
from suites.harness.reproduce import run, table1
from suites.harness.reproduce.request import Reproduction, Request
from suites.harness.reproduce.tables import TABLES

_COSTS = {  # estimates come from 1.6 10^9 operations an image and iterate, and the steps between
    "cifar10": {
        "smoke": "seconds",
        "cpu": "4 minutes on an idle core",
        "paper": "19 hours on two cores, minutes on a GPU (estimates)",
    },
    "imagenet10": {
        "smoke": "seconds",
        "cpu": "a quarter of an hour on two cores (estimate)",
        "paper": "8 hours on two cores, minutes on a GPU (estimates)",
    },
}
_COSTS_OF_TABLE1 = {"smoke": "seconds", "cpu": "3 minutes on an idle core", "paper": "an hour (estimate)"}


@dataclass(frozen=True)
class Result:
    """A table or figures of the paper.

    ``by_scale``: what it costs at each scale. ``prepare``: checks a request, raising ValueError with one line, and
    returns what runs it; without it the result is not done here yet.
    """

    name: str
    shows: str
    by_scale: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Request], Callable[[], Reproduction]] | None = None

    @property
    def costs(self) -> str:
        """What it costs at each scale, in a line."""
        if self.prepare is None:
            return "not done here yet"
        return "; ".join(f"{scale}: {cost}" for scale, cost in self.by_scale.items())


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
            Result(name, f"{t.shows}; {t.criterion}, {t.dataset}", _COSTS[t.dataset], partial(run.prepare, t))
            for name, t in TABLES.items()
        ),
        Result("figures", "the paper's curves of training"),
    )
}


def prepare(name: str, request: Request) -> Callable[[], Reproduction]:
    """What runs the result called ``name``.

    Raises:
        ValueError: one line, if there is no such result, it is not done here yet, or the request is bad.
    """
    result = pick("result", name, RESULTS)
    if result.prepare is None:
        done = [name for name, result in RESULTS.items() if result.prepare is not None]
        raise ValueError(f"{name} is not done here yet: there are {', '.join(done)}")
    return result.prepare(request)
