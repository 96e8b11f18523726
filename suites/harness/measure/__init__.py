"""Instruments: clocks, counters of operations and bytes, the machine."""
