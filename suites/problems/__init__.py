"""What is trained on: one file for each problem, found by itself, with its tuned settings beside it."""
