"""The commands of ``kronbench``, one module each; ``suites.harness.cli`` puts them together."""
