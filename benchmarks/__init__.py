"""Benchmarks for asv: thin classes over ``suites.harness``."""
