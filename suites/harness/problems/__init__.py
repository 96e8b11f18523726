"""What is trained on: one module for each problem, and what loads them."""

from suites.harness.problems.problem import Arrays as Arrays
from suites.harness.problems.problem import Problem as Problem
