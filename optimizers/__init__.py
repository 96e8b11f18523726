"""Second-order optimizers for fully connected networks, one module each: no I/O, no clock, no data.

    from optimizers import CROSS_ENTROPY, EACG, FCNN

    network = FCNN((64, 32, 10), "sigmoid", seed=0)
    optimizer = EACG(network.parameters(), lr=0.1)
    for x, y in batches:  # inputs [B, 64], class indices [B]
        tape = network.record(CROSS_ENTROPY, x, y)
        optimizer.step(tape)

``bounded()`` is the paper's criterion that is not convex. :mod:`optimizers.core` has the parts.
"""

from optimizers.core import CROSS_ENTROPY, FCNN, bounded
from optimizers.ea_cg import EACG
from optimizers.kfac import KFAC
from optimizers.kfra import KFRA
from optimizers.sgd import SGD

__all__ = ["CROSS_ENTROPY", "EACG", "FCNN", "KFAC", "KFRA", "SGD", "bounded"]
