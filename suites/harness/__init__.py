"""The measuring instrument, in rooms; imports between rooms run one way."""
