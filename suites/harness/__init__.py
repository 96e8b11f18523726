"""The measuring instrument, in rooms. Imports between rooms run one way."""
