"""What optimizers are made of: network, criteria, tape, curvature, solvers, and the optimizer that composes them."""

from optimizers.core.activations import ACTIVATIONS, Activation
from optimizers.core.criteria import BERNOULLI, CRITERIA, CROSS_ENTROPY, SQUARED_ERROR, Criterion, bounded
from optimizers.core.curvature import CURVATURES, Curvature, fisher, gauss_newton, pch
from optimizers.core.network import FCNN
from optimizers.core.operators import Dense, Gram, Operator
from optimizers.core.optimizer import Params, SecondOrder, TapeOptimizer
from optimizers.core.product import Product, add_scaled
from optimizers.core.ranges import Range
from optimizers.core.solvers import SOLVERS, Solver
from optimizers.core.solvers.ea_cg import ea_cg
from optimizers.core.solvers.kfi import kfi
from optimizers.core.solvers.solution import Solution, Status
from optimizers.core.space import Span
from optimizers.core.tape import Layer, Tape

__all__ = [
    "ACTIVATIONS",
    "BERNOULLI",
    "CRITERIA",
    "CROSS_ENTROPY",
    "CURVATURES",
    "FCNN",
    "SOLVERS",
    "SQUARED_ERROR",
    "Activation",
    "Criterion",
    "Curvature",
    "Dense",
    "Gram",
    "Layer",
    "Operator",
    "Params",
    "Product",
    "Range",
    "SecondOrder",
    "Solution",
    "Solver",
    "Span",
    "Status",
    "Tape",
    "TapeOptimizer",
    "add_scaled",
    "bounded",
    "ea_cg",
    "fisher",
    "gauss_newton",
    "kfi",
    "pch",
]
