"""The grid of the paper, and what of a setting it does not vary."""

BATCHES: tuple[int, ...] = (100, 500, 1000)
GRID: dict[str, tuple[float, ...]] = {  # of those options that a method has
    "lr": (0.05, 0.1, 0.2),
    "damping": (0.01, 0.02, 0.05, 0.1),
    "max_iter": (5, 10, 20, 50),
    "tolerance": (1e-10, 1e-5, 1e-2, 1e-1),
}


def method_of(spec: str) -> str:
    """The method of a setting: its specification without what the grid varies."""
    name, _, options = spec.removesuffix("]").partition("[")
    kept = [option for option in options.split(",") if option and option.partition("=")[0] not in GRID]
    return f"{name}[{','.join(kept)}]" if kept else name
