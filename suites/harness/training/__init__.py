"""Runs: train an optimizer on a problem with a seed, from the start or from a checkpoint, and write a record."""
