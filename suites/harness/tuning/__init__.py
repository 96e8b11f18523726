"""``kronbench tune``: the search for settings; and ``kronbench compare``: runs at these settings, on fresh seeds."""
