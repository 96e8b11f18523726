"""The paper's results, computed again: by name, at three scales, beside the paper's values."""
