"""The phases of e-OSVOS's training: what each one learns, how fast, and from what."""

import math
from dataclasses import dataclass

from innerloop_vos.configuration.arguments import described
from innerloop_vos.eosvos.finetuning import RATE
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_share,
)

PER = ("model", "tensor", "neuron", "parameter")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class EOSVOSTrainingSettings:
    """Settings of one phase; the defaults are those of the released meta-training.

    Raises:
        InputError: A value is out of its range.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, section 4.2, and the released system.
    """

    iterations: int = described(100_000, "Optimizer steps.")
    batch_size: int = described(
        4, "Tasks per step: an object of a clip each; in the parent phase frames."
    )
    inner_steps: int = described(
        5, "T, fine-tuning steps of a task; 0 trains the plain network, without tasks."
    )
    copies: int = described(
        0,
        "Augmented copies of a task's first frame that an inner step learns from, as at test "
        "time; 0: the frame itself.",
    )
    init_rate: float = described(1e-5, "Outer learning rate of the initialisation.")
    init_decay: float = described(1e-3, "Decoupled weight decay of the initialisation.")
    rates_rate: float = described(
        1e-5, "Outer learning rate of the learning rates; 0 keeps them as they are."
    )
    backbone_factor: float = described(
        1.0, "Of `init_rate` for the backbone without its feature pyramid."
    )
    schedule: str = described("constant", "Of the outer learning rates, constant or cosine.")
    per: str = described(
        "neuron",
        "What gets a learning rate of its own: the model, every tensor, neuron or parameter.",
    )
    rate: float = described(RATE, "Mean of these learning rates.")
    window: int = described(10_000, "Frames of the clip that those of a task come from.")
    in_order: bool = described(
        False, "Learn from the earlier frame of a task and test on the later one, not on any two."
    )
    paste: float = described(
        0.0, "Share of the tasks that an object of another clip is pasted into."
    )
    jitter: float = described(
        0.2, "Max change of brightness, contrast and saturation; half of it of the hue."
    )
    rotation: float = described(30.0, "Max angle that frames are turned by, in degrees.")
    scale: tuple[float, ...] = described(
        (0.75, 1.25), "Min and max factor that frames are scaled by."
    )
    bfloat16: bool = described(
        False, "Compute the layers in it: faster on CPUs and GPUs that have it."
    )
    clip: float = described(math.inf, "Max norm of the gradient, which is scaled down to it.")
    seed: int = described(0, "Of the first weights, the tasks and their augmentation.")
    held_out_tasks: int = described(
        20, "Tasks of the held-out clips, whose mean loss is measured too; 0: none."
    )

    def __post_init__(self) -> None:
        require_positive(self, "iterations batch_size init_rate rate window")
        require(self, "clip", "positive", lambda clip: clip > 0)
        require_not_negative(
            self,
            "inner_steps copies init_decay rates_rate backbone_factor rotation seed held_out_tasks",
        )
        require_share(self, "paste jitter")
        for name, known in (("schedule", SCHEDULES), ("per", PER)):
            require(self, name, f"one of {', '.join(known)}", known.__contains__)
        require(
            self,
            "scale",
            "two factors, the smaller first, in 0.01..100",
            lambda scale: len(scale) == 2 and 0.01 <= scale[0] <= scale[1] <= 100,
        )


PHASES = {
    "parent": EOSVOSTrainingSettings(inner_steps=0, init_rate=1e-4, rates_rate=0.0, per="model"),
    "meta": EOSVOSTrainingSettings(),
    "davis": EOSVOSTrainingSettings(iterations=10_000, rates_rate=0.0),
}
"""Plain training on frames, to compare with; meta-training; meta-training with fixed rates."""
