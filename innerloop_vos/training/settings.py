"""What all dataclasses of training settings check themselves with."""

from collections.abc import Callable
from typing import Any

from innerloop_vos.errors import InputError


def require(settings: object, names: str, should: str, fine: Callable[[Any], bool]) -> None:
    """Check settings that have the same range.

    Args:
        settings: Has them as attributes.
        names: Of the settings, between spaces.
        should: The range in words.
        fine: Whether a value is in it.

    Raises:
        InputError: One is not; the message names it.
    """
    for name in names.split():
        value = getattr(settings, name)
        if not fine(value):
            raise InputError(f"{name} should be {should}, got {value}")


def require_positive(settings: object, names: str) -> None:
    """`require` values above 0."""
    require(settings, names, "positive", lambda value: value > 0)


def require_not_negative(settings: object, names: str) -> None:
    """`require` values of at least 0."""
    require(settings, names, "0 or more", lambda value: value >= 0)


def require_share(settings: object, names: str) -> None:
    """`require` values from 0 to 1."""
    require(settings, names, "in 0..1", lambda value: 0 <= value <= 1)
