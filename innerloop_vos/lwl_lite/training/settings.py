"""Settings of LWL-lite's training."""

from dataclasses import dataclass

from innerloop_vos.configuration.arguments import described
from innerloop_vos.training.settings import (
    DescentSettings,
    require,
    require_not_negative,
    require_positive,
    require_share,
)


@dataclass(frozen=True)
class LWLLiteSettings(DescentSettings):
    """Settings of LWL-lite's training.

    Raises:
        InputError: A value is out of its range.
    """

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
    projection_rate: float = described(
        2e-4, "Learning rate of the projection to target features at its height."
    )
    regularization_rate: float = described(5e-3, "Likewise of the target model's regularization.")
    box_rate: float = described(
        0.0,
        "Likewise of the box encoder; above 0, nothing else is trained, on the first frames alone.",
    )
    cross_entropy: float = described(2.0, "Weight of the cross-entropy beside the Lovász loss.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "frames fastest")
        require_not_negative(self, "projection_rate regularization_rate box_rate cross_entropy")
        least = 1 if self.box_rate else 2
        require(self, "frames", f"at least {least}", lambda count: count >= least)
        require_share(self, "paste errors")
