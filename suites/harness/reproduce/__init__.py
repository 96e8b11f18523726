"""What the paper shows, computed again: results by name, at three scales, beside the paper's values."""
