"""Settings of LWL-lite's training."""

from dataclasses import dataclass

from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_share,
    require_sides,
)


@dataclass(frozen=True)
class LWLLiteSettings:
    """Settings of LWL-lite's training.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(4000, "Optimizer steps.")
    batch_size: int = described(4, "Mini-sequences per step.")
    height: int = described(256, "Of the windows in pixels.")
    width: int = described(448, "Of the windows in pixels.")
    frames: int = described(5, "Frames of a mini-sequence, of which all but the first are tracked.")
    fastest: float = described(10.0, "Greatest speed, in frames of a clip per frame.")
    paste: float = described(
        0.5, "Share of the mini-sequences that an object of another clip is pasted into."
    )
    errors: float = described(
        0.3,
        "Share of the masks found that are remembered with an error, so that it learns to recover.",
    )
    rate: float = described(1e-3, "Learning rate of label encoder and decoder at its height.")
    projection_rate: float = described(2e-4, "Likewise of the projection to target features.")
    regularization_rate: float = described(5e-3, "Likewise of the target model's regularization.")
    backbone_rate: float = described(
        0.0, "Likewise of the backbone's pointwise convolutions beyond stride 4; 0 keeps them."
    )
    box_rate: float = described(
        0.0,
        "Likewise of the box encoder; above 0, nothing else is trained, on the first frames alone.",
    )
    warmup: int = described(
        50, "Steps in which the rates rise; then they fall to zero like half a cosine."
    )
    weight_decay: float = described(1e-2, "Of AdamW.")
    cross_entropy: float = described(2.0, "Weight of the cross-entropy beside the Lovász loss.")
    bfloat16: bool = described(
        False, "Compute backbone and decoder in it: twice as fast on CPUs that have it."
    )
    clip: float = described(1.0, "Max norm of the gradient, which is scaled down to it.")
    seed: int = described(0, "Of the first weights and the windows.")

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size frames fastest rate warmup clip")
        require_not_negative(
            self,
            "projection_rate regularization_rate backbone_rate box_rate weight_decay cross_entropy "
            "seed",
        )
        least = 1 if self.box_rate else 2
        require(self, "frames", f"at least {least}", lambda count: count >= least)
        require_share(self, "paste")
        require_share(self, "errors")
        require_sides(self, "height width")
