"""The published comparison: a page that opens from disk, its tables and its pictures, from records alone."""
