"""What writers and readers of records agree on. Nothing is imported, so readers need no torch."""

REFERENCE = "sgd"  # whose steps others are held against
PHASES = ("forward_backward", "curvature", "solve", "update")  # of a step
