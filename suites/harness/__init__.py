"""Data, experiments, runner, records, clock, memory, statistics, report and command line."""
