"""What records say: statistics, metrics, verdicts, curves, profiles."""
