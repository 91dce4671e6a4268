"""Settings of COSNet's training."""

from dataclasses import dataclass

from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import DescentSettings, require, require_not_negative


@dataclass(frozen=True)
class COSNetSettings(DescentSettings):
    """Settings of COSNet's training.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(6000, "Optimizer steps, of pairs and of images together.")
    batch_size: int = described(4, "Pairs of frames per step, or half as many images.")
    warmup: int = described(
        100, "Steps in which the rates rise; then they fall to zero like half a cosine."
    )
    balance: float = described(
        0.1,
        "Least weight of foreground and of background in the cross-entropy, whose weights are the "
        "share of the other in the image: 0.5 weighs both alike.",
    )
    lovasz: float = described(1.0, "Weight of the Lovász loss beside the cross-entropy.")
    coarse: float = described(0.5, "Weight of the cross-entropy of the coarse masks.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "lovasz coarse")
        require(self, "balance", "in 0..0.5", lambda share: 0 <= share <= 0.5)
