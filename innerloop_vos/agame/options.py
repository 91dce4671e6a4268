"""Settings of A-GAME on video."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AGAMEOptions:
    """How a video is tracked.

    Args:
        short_side: larger frames are made smaller, until their shorter side has so many pixels.
        half: whether the layers compute in bfloat16, which is faster on a GPU, and on processors
            that have it. Default: not.
        learning_rate: λ, share of a new frame in the appearance model; 0: it stays as it was in the
            first frame. The paper has 0.1, which costs the network that ships more by its own
            errors than it gains.
        min_area: pixels that an object must cover for its frame to be learned from.
    """

    short_side: int = 480
    half: bool = False
    learning_rate: float = 0.0
    min_area: int = 100

    def __post_init__(self) -> None:
        if not 32 <= self.short_side <= 8192:
            raise ValueError(f"short_side: {self.short_side}, should be from 32 to 8192")
        if not 0 <= self.learning_rate <= 1:
            raise ValueError(f"learning_rate: {self.learning_rate}, should be from 0 to 1")
        if self.min_area < 0:
            raise ValueError(f"min_area: {self.min_area}, should be at least 0")
