"""Settings of A-GAME's training."""

from dataclasses import dataclass

from innerloop_vos.agame.model.network import LEARNING_RATE
from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_share,
    require_sides,
)


@dataclass(frozen=True)
class AGAMESettings:
    """Settings of A-GAME's training.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(2000, "Optimizer steps.")
    batch_size: int = described(4, "Mini-sequences per step.")
    height: int = described(256, "Of the windows in pixels.")
    width: int = described(448, "Of the windows in pixels.")
    frames: int = described(5, "Frames of a mini-sequence, of which all but the first are tracked.")
    fastest: float = described(10.0, "Greatest speed, in frames of a clip per frame.")
    paste: float = described(
        0.5, "Share of the mini-sequences that an object of another clip is pasted into."
    )
    learning_rate: float = described(
        LEARNING_RATE, "Share of a new frame in the appearance model; 0: it is not updated."
    )
    rate: float = described(1e-3, "Learning rate of the layers at its height.")
    projection_rate: float = described(5e-4, "Likewise of the projection to features.")
    appearance_rate: float = described(5e-3, "Likewise of the appearance model's regularisers.")
    backbone_rate: float = described(
        0.0, "Likewise of the backbone's pointwise convolutions beyond stride 4; 0 keeps them."
    )
    warmup: int = described(
        50, "Steps in which the rates rise; then they fall to zero like half a cosine."
    )
    weight_decay: float = described(1e-2, "Of AdamW.")
    cross_entropy: float = described(2.0, "Weight of the cross-entropy beside the Lovász loss.")
    coarse: float = described(0.5, "Weight of the cross-entropy of the coarse masks.")
    bfloat16: bool = described(
        False, "Compute the layers in it: twice as fast on CPUs that have it."
    )
    clip: float = described(1.0, "Max norm of the gradient, which is scaled down to it.")
    seed: int = described(0, "Of the first weights and the windows.")

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size frames fastest rate warmup clip")
        require_not_negative(
            self,
            "projection_rate appearance_rate backbone_rate weight_decay cross_entropy coarse seed",
        )
        require(self, "frames", "at least 2", lambda count: count >= 2)
        require_share(self, "paste learning_rate")
        require_sides(self, "height width")
