"""``kronbench gate``: numbers held against the baseline that the repository keeps."""
