"""Runs: an optimizer on a problem with a seed, from the start or from where it died, to a record."""
