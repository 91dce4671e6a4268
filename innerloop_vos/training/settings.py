"""What the dataclasses of training settings share: checks, and the settings of a descent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import described
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


@dataclass(frozen=True)
class DescentSettings:
    """Settings that trainings by AdamW share; see `DescentTraining`.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(4000, "Optimizer steps.")
    batch_size: int = described(4, "Mini-sequences per step.")
    height: int = described(256, "Of the windows in pixels.")
    width: int = described(448, "Of the windows in pixels.")
    rate: float = described(1e-3, "Learning rate of the layers beyond the backbone at its height.")
    backbone_rate: float = described(
        1e-4, "Likewise of the backbone's pointwise convolutions beyond stride 4; 0 keeps them."
    )
    warmup: int = described(
        50, "Steps in which the rates rise; then they fall to zero like half a cosine."
    )
    weight_decay: float = described(1e-2, "Of AdamW.")
    clip: float = described(1.0, "Max norm of the gradient, which is scaled down to it.")
    bfloat16: bool = described(
        False, "Compute the layers in it: faster on GPUs, and on CPUs that have it."
    )
    seed: int = described(0, "Of the first weights and the draws.")

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size rate warmup clip")
        require_not_negative(self, "backbone_rate weight_decay seed")
        require_sides(self, "height width")
