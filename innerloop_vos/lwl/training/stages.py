"""The stages of LWL's training: what each one trains, how fast, and on what."""

from dataclasses import dataclass
from typing import Any

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import described
from innerloop_vos.configuration.options import MOST
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.training.losses import LOSSES
from innerloop_vos.training.data import described_ratio
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_share,
    require_sides,
)

_PARTS = {
    "regularization": "target_model.filter_optimizer.",
    "projection": "target_model.feature_extractor.",
    "decoder": "decoder.",
    "label_encoder": "label_encoder.",
    "box_encoder": "box_label_encoder.",
    "backbone": "feature_extractor.",
}
"""The parts that have a learning rate of their own, by how the names of their parameters begin."""

ADJOINTS: dict[str, il.Adjoint] = {"unroll": il.Unroll(), "detach": il.Detach()}
"""How gradients come back through the inner solver, by name."""

_WITHIN_SOLVER = ("regularization", "label_encoder")
"""The parts that gradients reach through the inner solver alone."""

_ALWAYS_FROZEN = tuple(
    f"feature_extractor.{layer}."
    for layer in ("conv1", "bn1", "layer1", "stem", "stages.0", "stages.1")
)
"""What of the backbone is never trained: all up to its finest level."""


def _rate_name(part: str) -> str:
    return f"{part}_rate"


@dataclass(frozen=True)
class LWLTrainingSettings:
    """Settings of one stage of a training; the defaults are those of the released stage 1.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(70_000, "Optimizer steps.")
    batch_size: int = described(20, "Mini-sequences per step.")
    accumulate: int = described(
        1,
        "Parts that the mini-sequences of a step are taken in, one after the other, to need less "
        "memory; their gradients are averaged. A joint loss has one sort a part.",
    )
    height: int = described(480, "Of the crops in pixels.")
    width: int = described(832, "Of the crops in pixels.")
    test_frames: int = described(
        3, "Frames of a mini-sequence that are segmented, after one to learn from."
    )
    window: int = described(100, "Frames of the clip that a mini-sequence comes from.")
    paste: float = described(
        0.0, "Share of the mini-sequences that an object of another clip is pasted into."
    )
    ratio: tuple[float, ...] = described_ratio((6.0, 1.0, 1.0, 1.0))
    replacement: bool = described(
        True, "Draw clips with replacement; without, as in the paper, each once a round."
    )
    colours: bool = described(
        True, "Make mini-sequences grey at times and frames brighter or darker; not in the paper."
    )
    init_steps: int = described(5, "Steps of the inner solver on the frame that is learned from.")
    update_steps: int = described(
        2, "Steps after each frame that is segmented, learning from its predicted mask."
    )
    loss: str = described(
        "joint",
        "Lovász loss of all frames of a batch in one sort (joint), or the mean of those of its "
        "frames, as in the paper (frames); or the binary cross-entropy of its Table 7 "
        "(cross-entropy).",
    )
    loss_weight: float = described(100.0, "What the loss is multiplied by.")
    adjoint: str = described(
        "unroll",
        "How gradients come back through the inner solver: step by step (unroll), or not at all, "
        "as in the baseline of the paper's Table 1 (detach).",
    )
    regularization_rate: float = described(
        1e-4, "Learning rate of the target model's regularization; 0 freezes a part."
    )
    projection_rate: float = described(2e-5, "Learning rate of the projection to target features.")
    decoder_rate: float = described(1e-4, "Learning rate of the decoder.")
    label_encoder_rate: float = described(2e-4, "Learning rate of the label encoder.")
    box_encoder_rate: float = described(0.0, "Learning rate of the box encoder.")
    backbone_rate: float = described(
        0.0, "Learning rate of the backbone, all but its first layers."
    )
    decay_at: tuple[int, ...] = described(
        (40_000,), "Steps at which the learning rates fall to a fifth."
    )
    seed: int = described(0, "Of the first weights, the mini-sequences and their augmentation.")

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size accumulate window init_steps loss_weight")
        should = f"a divisor of batch_size, {self.batch_size}"
        require(self, "accumulate", should, lambda parts: self.batch_size % parts == 0)
        require_sides(self, "height width")
        require(self, "loss", f"one of {', '.join(LOSSES)}", LOSSES.__contains__)
        require(self, "adjoint", f"one of {', '.join(ADJOINTS)}", ADJOINTS.__contains__)
        require(self, "decay_at", "steps", lambda steps: all(0 <= step <= MOST for step in steps))
        least = 0 if self.box_encoder_rate > 0 else 1
        should = "positive, or 0 for the box encoder"
        require(self, "test_frames", should, lambda count: count >= least)
        rates = map(_rate_name, _PARTS)
        require_not_negative(self, " ".join(("update_steps test_frames seed", *rates)))
        require_share(self, "paste")
        if not self.trained_parts:
            raise InputError("learning rates: all are 0, so nothing would be trained")

    @property
    def trained_parts(self) -> list[str]:
        """The names of the parts that have a learning rate."""
        return [part for part in _PARTS if getattr(self, _rate_name(part))]


STAGES = {
    "1": LWLTrainingSettings(),
    "2": LWLTrainingSettings(
        iterations=80_000,
        regularization_rate=2e-5,
        projection_rate=2e-5,
        decoder_rate=2e-5,
        label_encoder_rate=2e-5,
        backbone_rate=2e-5,
        decay_at=(25_000, 75_000),
    ),
    "box": LWLTrainingSettings(
        iterations=50_000,
        batch_size=8,
        test_frames=0,
        ratio=(1.0, 1.0, 1.0, 1.0),
        loss_weight=10.0,
        regularization_rate=0.0,
        projection_rate=0.0,
        decoder_rate=0.0,
        label_encoder_rate=0.0,
        box_encoder_rate=1e-3,
        decay_at=(20_000, 40_000),
    ),
}
"""The released stages: with the backbone frozen; with it trained; the box encoder alone."""


def parameter_groups(network: LWL, settings: LWLTrainingSettings) -> list[dict[str, Any]]:
    """Freeze what the settings do not train, and group the rest by learning rate.

    Labels that are the mask itself have nothing to train; their rate is left out.

    Args:
        network: its parameters' `requires_grad` is set.
        settings: with the learning rates.

    Returns:
        Groups for an optimizer, each with the name of its `part`, and with the rate under `lr` and
        again under `base`.

    Raises:
        InputError: a part that is to be trained is missing, or no gradient reaches it.
    """
    groups: list[dict[str, Any]] = []
    modules = dict(network.named_modules())
    network.requires_grad_(False)
    for part in settings.trained_parts:
        rate = getattr(settings, _rate_name(part))
        parameters = [
            parameter
            for name, parameter in network.named_parameters()
            if name.startswith(_PARTS[part]) and not name.startswith(_ALWAYS_FROZEN)
        ]
        if _PARTS[part].removesuffix(".") not in modules:
            raise InputError(f"{_rate_name(part)} is {rate}, but the network has no such part")
        if not parameters:
            continue
        if settings.adjoint == "detach" and part in _WITHIN_SOLVER:
            raise InputError(
                f"{_rate_name(part)} is {rate}, should be 0 with adjoint detach, which sends this "
                "part no gradient"
            )
        for parameter in parameters:
            parameter.requires_grad_(True)
        groups.append({"params": parameters, "lr": rate, "base": rate, "part": part})
    if not groups:
        raise InputError(
            f"learning rates: {', '.join(settings.trained_parts)} has nothing to train in this "
            "network, and all others are 0"
        )
    return groups
