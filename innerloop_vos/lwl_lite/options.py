"""Settings of LWL-lite on video."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LWLLiteOptions:
    """How a video is tracked.

    Args:
        short_side: larger frames are made smaller, until their shorter side has so many pixels.
        half: whether backbone and decoder compute in bfloat16, which is faster on a GPU, and on
            processors that have it. Default: not.
        learning_rate: share of a new frame in what is remembered of the later frames.
        first_weight: least share of the first frame in all; a corrected one weighs as much.
        min_area: pixels that an object must cover for its frame to be learned from.
        box_factor: side of what is looked at to find the mask in a box, in units of the box's.
    """

    short_side: int = 480
    half: bool = False
    learning_rate: float = 0.1
    first_weight: float = 0.5
    min_area: int = 100
    box_factor: float = 2.0

    def __post_init__(self) -> None:
        if not 32 <= self.short_side <= 8192:
            raise ValueError(f"short_side: {self.short_side}, should be from 32 to 8192")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate: {self.learning_rate}, should be between 0 and 1")
        if not 0 <= self.first_weight < 1:
            raise ValueError(f"first_weight: {self.first_weight}, should be in [0, 1)")
        if self.min_area < 0:
            raise ValueError(f"min_area: {self.min_area}, should be at least 0")
        if not 1 <= self.box_factor <= 100:
            raise ValueError(f"box_factor: {self.box_factor}, should be from 1 to 100")


SPEEDS = {
    "fast": LWLLiteOptions(short_side=320),
    "balanced": LWLLiteOptions(short_side=384),
    "best": LWLLiteOptions(),
}
"""Settings by how quality and speed are weighed: the pixels that are looked at decide on both."""
