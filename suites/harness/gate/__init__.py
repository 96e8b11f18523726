"""``kronbench gate``: numbers compared with a baseline in the repository. ``kronbench check``: conformance."""
