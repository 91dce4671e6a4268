"""Checks that the dataclasses of training settings share."""

from collections.abc import Callable
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.configuration.options import MOST


def require(settings: object, names: str, should: str, fine: Callable[[Any], bool]) -> None:
    """Check settings that have the same range.

    Args:
        settings: object with these settings as attributes.
        names: names of the settings, separated by spaces.
        should: the range in words.
        fine: function that tells whether a value is in the range.

    Raises:
        InputError: one is out of range; the message names it.
    """
    for name in names.split():
        value = getattr(settings, name)
        if not fine(value):
            raise InputError(f"{name} should be {should}, got {str(value)[:50]}")


def require_positive(settings: object, names: str) -> None:
    """`require` finite values above 0."""
    require(settings, names, "positive", lambda value: value > 0)
    _require_bounded(settings, names)


def require_not_negative(settings: object, names: str) -> None:
    """`require` finite values of at least 0."""
    require(settings, names, "0 or more", lambda value: value >= 0)
    _require_bounded(settings, names)


def require_share(settings: object, names: str) -> None:
    """`require` values from 0 to 1."""
    require(settings, names, "in 0..1", lambda value: 0 <= value <= 1)


def require_sides(settings: object, names: str) -> None:
    """`require` sides of images in pixels that fit into memory."""
    require(settings, names, "at least 32", lambda side: side >= 32)
    require(settings, names, "at most 8192", lambda side: side <= 8192)


def _require_bounded(settings: object, names: str) -> None:
    require(settings, names, f"at most {MOST}", lambda value: value <= MOST)
