"""What writers and readers of records agree on. Nothing is imported, so readers need no torch."""

REFERENCE = "sgd"  # the steps of others are compared with its
PHASES = ("forward_backward", "curvature", "solve", "update")  # of a step
