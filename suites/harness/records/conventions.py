"""What those who measure and those who read records agree on; nothing is imported, so that readers need no torch."""

REFERENCE = "sgd"  # whose steps others are held against
PHASES = ("forward_backward", "curvature", "solve", "update")  # of a step
