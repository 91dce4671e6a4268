"""Settings of A-GAME's training."""

from dataclasses import dataclass

from innerloop_vos.agame.model.network import LEARNING_RATE
from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    DescentSettings,
    require,
    require_not_negative,
    require_positive,
    require_share,
)


@dataclass(frozen=True)
class AGAMESettings(DescentSettings):
    """Settings of A-GAME's training.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(2000, "Optimizer steps.")
    backbone_rate: float = described(
        0.0, "Learning rate of the backbone's pointwise convolutions beyond stride 4; 0 keeps them."
    )
    frames: int = described(5, "Frames of a mini-sequence, of which all but the first are tracked.")
    fastest: float = described(10.0, "Greatest speed, in frames of a clip per frame.")
    paste: float = described(
        0.5, "Share of the mini-sequences that an object of another clip is pasted into."
    )
    errors: float = described(
        0.3,
        "Share of the masks found that are remembered with an error, so that it learns to recover.",
    )
    learning_rate: float = described(
        LEARNING_RATE, "Share of a new frame in the appearance model; 0: it is not updated."
    )
    projection_rate: float = described(
        5e-4, "Learning rate of the projection to features at its height."
    )
    appearance_rate: float = described(5e-3, "Likewise of the appearance model's regularisers.")
    cross_entropy: float = described(2.0, "Weight of the cross-entropy beside the Lovász loss.")
    coarse: float = described(0.5, "Weight of the cross-entropy of the coarse masks.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "frames fastest")
        require_not_negative(self, "projection_rate appearance_rate cross_entropy coarse")
        require(self, "frames", "at least 2", lambda count: count >= 2)
        require_share(self, "paste errors learning_rate")
