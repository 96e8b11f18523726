"""Bytes of a training step: counted while they live, predicted by formula, measured in a fresh process."""
