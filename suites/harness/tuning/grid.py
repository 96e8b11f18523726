"""The grid of the paper."""

import itertools

from suites.harness.training.catalog import Choice

BATCHES = (100, 500, 1000)
GRID: dict[str, tuple[float, ...]] = {  # a method takes the options that it has
    "lr": (0.05, 0.1, 0.2),
    "damping": (0.01, 0.02, 0.05, 0.1),
    "max_iter": (5, 10, 20, 50),
    "tolerance": (1e-10, 1e-5, 1e-2, 1e-1),
}


def varied(choice: Choice) -> dict[str, tuple[float, ...]]:
    """The part of the grid for the options of a method that its specification leaves open."""
    return {n: values for n, values in GRID.items() if n in choice.entry.options and n not in choice.options}


def settings(choice: Choice) -> list[dict[str, float]]:
    """Every combination of :func:`varied`."""
    grid = varied(choice)
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
