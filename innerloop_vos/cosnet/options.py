"""Settings of COSNet on video."""

from dataclasses import dataclass

from innerloop_vos.cosnet.selection import SELECTIONS


@dataclass(frozen=True)
class COSNetOptions:
    """How the objects of a video are found.

    Args:
        references: N, frames of the video that help with each frame; 0 for none.
        selection: how they are selected, one of `SELECTIONS`: spread over the video ("uniform"),
            drawn from it ("random"), or those around each frame ("local").
        short_side: larger frames are made smaller, until their shorter side has so many pixels.
        half: whether the network computes in bfloat16, which is faster on a GPU, and on processors
            that have it. Default: not.
        threshold: probability above which a pixel belongs to the objects.
        refine: whether the mask is moved to edges of the frame by a guided filter. Default: it is.
        seed: of the frames that are drawn.
    """

    references: int = 5
    selection: str = "uniform"
    short_side: int = 384
    half: bool = False
    threshold: float = 0.5
    refine: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.references <= 1000:
            raise ValueError(f"references: {self.references}, should be from 0 to 1000")
        if self.selection not in SELECTIONS:
            raise ValueError(
                f"selection: {self.selection!r}, should be one of {', '.join(SELECTIONS)}"
            )
        if not 32 <= self.short_side <= 8192:
            raise ValueError(f"short_side: {self.short_side}, should be from 32 to 8192")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: {self.threshold}, should be between 0 and 1")
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed}, should be at least 0")
