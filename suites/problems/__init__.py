"""Problems: one file each, found by itself, with its tuned settings beside it."""
