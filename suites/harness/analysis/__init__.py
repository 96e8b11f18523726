"""Statistics, metrics, verdicts, curves and profiles of records."""
