"""``kronbench gpu``: all that needs a GPU, stage by stage within a given time."""
