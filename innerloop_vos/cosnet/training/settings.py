"""Settings of COSNet's training."""

from dataclasses import dataclass

from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_sides,
)


@dataclass(frozen=True)
class COSNetSettings:
    """Settings of COSNet's training.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(6000, "Optimizer steps, of pairs and of images together.")
    batch_size: int = described(4, "Pairs of frames per step, or half as many images.")
    height: int = described(256, "Of what is seen of a frame, in pixels.")
    width: int = described(448, "Of what is seen of a frame, in pixels.")
    rate: float = described(1e-3, "Learning rate of all but the backbone at its height.")
    backbone_rate: float = described(
        1e-4, "Likewise of the backbone's pointwise convolutions beyond stride 4; 0 keeps them."
    )
    warmup: int = described(
        100, "Steps in which the rates rise; then they fall to zero like half a cosine."
    )
    weight_decay: float = described(1e-2, "Of AdamW.")
    balance: float = described(
        0.1,
        "Least weight of foreground and of background in the cross-entropy, whose weights are the "
        "share of the other in the image: 0.5 weighs both alike.",
    )
    lovasz: float = described(1.0, "Weight of the Lovász loss beside the cross-entropy.")
    coarse: float = described(0.5, "Weight of the cross-entropy of the coarse masks.")
    bfloat16: bool = described(False, "Compute in it: twice as fast on CPUs that have it.")
    clip: float = described(1.0, "Max norm of the gradient, which is scaled down to it.")
    seed: int = described(0, "Of the first weights and the frames.")

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size rate warmup clip")
        require_not_negative(self, "backbone_rate weight_decay lovasz coarse seed")
        require(self, "balance", "in 0..0.5", lambda share: 0 <= share <= 0.5)
        require_sides(self, "height width")
