"""The algorithms under test, one module each: no I/O, no clock, no data."""

from optimizers.core import CROSS_ENTROPY, FCNN
from optimizers.ea_cg import EACG
from optimizers.kfac import KFAC
from optimizers.kfra import KFRA
from optimizers.sgd import SGD

__all__ = ["CROSS_ENTROPY", "EACG", "FCNN", "KFAC", "KFRA", "SGD"]
