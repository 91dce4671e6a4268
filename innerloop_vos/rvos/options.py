"""Settings of RVOS on video."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RVOSOptions:
    """How frames are looked at.

    Args:
        short_side: larger frames are made smaller, until their shorter side has so many pixels.
            Default 256, that of the training.
        half: whether the network computes in bfloat16, which is faster on a GPU, and on processors
            that have it. Default: not.
    """

    short_side: int = 256
    half: bool = False

    def __post_init__(self) -> None:
        if not 32 <= self.short_side <= 8192:
            raise ValueError(f"short_side: {self.short_side}, should be from 32 to 8192")


@dataclass(frozen=True)
class ZeroShotOptions(RVOSOptions):
    """How frames are looked at, and which objects are found in them.

    Args:
        objects: the most that are found.
        threshold: probability of there being one more object, from which on it is taken for one.
    """

    objects: int = 10
    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.objects <= 254:
            raise ValueError(f"objects: {self.objects}, should be from 1 to 254")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: {self.threshold}, should be between 0 and 1")
