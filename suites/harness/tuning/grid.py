"""The grid of the paper; its options are those that :func:`suites.harness.names.method_of` leaves out."""

BATCHES: tuple[int, ...] = (100, 500, 1000)
GRID: dict[str, tuple[float, ...]] = {  # of those options that a method has
    "lr": (0.05, 0.1, 0.2),
    "damping": (0.01, 0.02, 0.05, 0.1),
    "max_iter": (5, 10, 20, 50),
    "tolerance": (1e-10, 1e-5, 1e-2, 1e-1),
}
