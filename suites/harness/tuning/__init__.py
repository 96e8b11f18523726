"""``kronbench tune``: the grid search, its successive halving, and the best settings again on fresh seeds."""
