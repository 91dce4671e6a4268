"""Settings of RVOS's training."""

from dataclasses import dataclass
from typing import Literal

from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_share,
    require_sides,
)


@dataclass(frozen=True)
class RVOSSettings:
    """Settings of RVOS's training.

    Raises:
        InputError: A value is out of its range.
    """

    task: Literal["one-shot", "zero-shot", "both"] = described(
        "both",
        "Whether objects are given in the first frame, or are to be found, or both, by turns.",
    )
    iterations: int = described(6000, "Optimizer steps.")
    batch_size: int = described(4, "Clips per step.")
    height: int = described(256, "Of the windows in pixels.")
    width: int = described(448, "Of the windows in pixels.")
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
    boxes: float = described(
        0.2, "Share of the clips whose objects are given by their boxes, to find the masks in them."
    )
    rate: float = described(1e-3, "Learning rate of the decoder at its height.")
    backbone_rate: float = described(
        1e-4, "Likewise of the backbone's pointwise convolutions beyond stride 4; 0 keeps them."
    )
    warmup: int = described(
        50, "Steps in which the rates rise; then they fall to zero like half a cosine."
    )
    weight_decay: float = described(1e-2, "Of AdamW.")
    cross_entropy: float = described(
        1.0,
        "Weight of the cross-entropy of masks beside their soft intersection over union, which "
        "alone first learns to mark everything.",
    )
    stop: float = described(0.5, "Weight of the loss of when to stop.")
    bfloat16: bool = described(
        False, "Compute convolutions in it: faster on CPUs that have it, and on GPUs."
    )
    clip: float = described(1.0, "Max norm of the gradient, which is scaled down to it.")
    seed: int = described(0, "Of the first weights and the windows.")

    def __post_init__(self) -> None:
        tasks = ("one-shot", "zero-shot", "both")
        require(self, "task", ", ".join(tasks), lambda task: task in tasks)
        require_positive(self, "iterations batch_size frames fastest objects rate warmup clip")
        require_not_negative(self, "backbone_rate weight_decay cross_entropy stop seed")
        require_share(self, "inferred_from")
        require_share(self, "boxes")
        require_sides(self, "height width")
