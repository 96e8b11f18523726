"""Problems: what one says, how it is found, and how its data are loaded."""

from suites.harness.data.problem import Arrays as Arrays
from suites.harness.data.problem import Problem as Problem
