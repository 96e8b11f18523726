"""The data side: what a problem says, how it is found, and what loads its data."""

from suites.harness.data.problem import Arrays as Arrays
from suites.harness.data.problem import Problem as Problem
