"""The measuring instrument: the harness, and the pytest-benchmark suites on top of it."""
