"""Settings of RVOS's training."""

from dataclasses import dataclass
from typing import Literal

from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    DescentSettings,
    require,
    require_not_negative,
    require_positive,
    require_share,
)


@dataclass(frozen=True)
class RVOSSettings(DescentSettings):
    """Settings of RVOS's training.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(6000, "Optimizer steps.")
    batch_size: int = described(4, "Clips per step.")
    task: Literal["one-shot", "zero-shot", "both"] = described(
        "both",
        "Whether objects are given in the first frame, or are to be found, or both, by turns.",
    )
    frames: int = described(5, "Of a clip.")
    fastest: float = described(5.0, "Greatest speed, in frames of a clip per frame.")
    objects: int = described(
        3, "The most in a clip; where it shows fewer, those of other clips are pasted into it."
    )
    inferred_from: float = described(
        0.5,
        "Share of the steps from which on the masks of the frame before are the network's own, "
        "not the true ones; 1: never.",
    )
    errors: float = described(
        0.3,
        "Share of the masks of the frame before that have an error, so that it learns to recover.",
    )
    boxes: float = described(
        0.2, "Share of the clips whose objects are given by their boxes, to find the masks in them."
    )
    cross_entropy: float = described(
        1.0,
        "Weight of the cross-entropy of masks beside their soft intersection over union, which "
        "alone first learns to mark everything.",
    )
    stop: float = described(0.5, "Weight of the loss of when to stop.")

    def __post_init__(self) -> None:
        super().__post_init__()
        tasks = ("one-shot", "zero-shot", "both")
        require(self, "task", ", ".join(tasks), lambda task: task in tasks)
        require_positive(self, "frames fastest objects")
        require_not_negative(self, "cross_entropy stop")
        require_share(self, "inferred_from errors boxes")
