"""Times and bytes as people write them: 60s, 2m; decimal units (11GB is 11 * 10^9) and binary ones (10GiB)."""

import re

_DECIMAL = ("B", "kB", "MB", "GB")
_FACTORS = {"": 1, "b": 1} | {
    f"{prefix}{binary}b": (1024 if binary else 1000) ** power
    for power, prefix in enumerate("kmgt", start=1)
    for binary in ("", "i")
}
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_bytes(text: str) -> int:
    """Bytes from ``11GB``, ``500 MB``, ``10GiB`` or a plain number.

    Raises:
        ValueError: if it is none of these, or below one byte.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*([a-z]*)", text.strip().lower())
    size = int(float(found[1]) * _FACTORS.get(found[2], 0)) if found else 0
    if size < 1:
        raise ValueError(f"a size must be a number with a unit, such as 11GB or 10GiB, got {text!r}")
    return size


def parse_seconds(text: str) -> float:
    """Seconds from ``60s``, ``2m`` or ``1.5h``.

    Raises:
        ValueError: if it is none of these, or not above 0.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*([smh])", text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise ValueError(f"a time must be a number with a unit, such as 60s, 2m or 1h, got {text!r}")
    return seconds


def shown_bytes(size: float) -> str:
    """Bytes with three digits and a decimal unit, ``90.6 GB``."""
    for unit in _DECIMAL[:-1]:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_DECIMAL[-1]}"
