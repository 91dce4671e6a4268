"""Checks of the sizes that a file gives, before a network of these sizes takes all memory."""

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def whole(least: int, most: int) -> Check:
    """Return a check of a whole number in a range."""
    return lambda value: type(value) is int and least <= value <= most


def several(count: int, check: Check) -> Check:
    """Return a check of a list of so many values."""
    return lambda value: type(value) is list and len(value) == count and all(map(check, value))


def one_of(*known: Any) -> Check:
    """Return a check of a value among a few."""
    return lambda value: any(type(value) is type(each) and value == each for each in known)


WIDTH = whole(1, 2**14)
"""The check of a number of channels, and of other counts."""


def check_sizes(sizes: Any, checks: Mapping[str, Check]) -> None:
    """Check all sizes of a network.

    Args:
        sizes: as the file has them.
        checks: what can be given, by name.

    Raises:
        ValueError: there are none, or one is unknown or out of its range.
    """
    if type(sizes) is not dict:
        raise ValueError("its sizes are missing")
    for name, value in sizes.items():
        if name not in checks or not checks[name](value):
            raise ValueError(f"its sizes have {name} = {str(value)[:50]}")
