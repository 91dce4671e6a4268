"""The training of LWL's decoder alone, on what it sees while whole clips are tracked."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import described
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.segmenter import LWLSegmenter
from innerloop_vos.lwl.training.end_to_end import WEIGHTS
from innerloop_vos.lwl.training.replay import Replay
from innerloop_vos.lwl.weights import save_lwl
from innerloop_vos.training.loop import Figures, Stateful, Training, cosine_rate
from innerloop_vos.training.losses import lovasz_sigmoid
from innerloop_vos.training.processes import average_gradients
from innerloop_vos.training.settings import (
    require,
    require_not_negative,
    require_positive,
    require_sides,
)
from innerloop_vos.training.validation import Validation


@dataclass(frozen=True)
class DecoderTrainingSettings:
    """Settings of the training of the decoder alone.

    Raises:
        InputError: A value is out of its range.
    """

    iterations: int = described(1000, "Optimizer steps.")
    batch_size: int = described(8, "Windows per step.")
    height: int = described(256, "Of the windows in pixels, a multiple of 16.")
    width: int = described(448, "Of the windows in pixels, a multiple of 16.")
    record_every: int = described(
        500, "Steps from one tracking of clips, with the decoder as it then is, to the next."
    )
    tracked_clips: int = described(
        60, "How many clips are tracked at a time, at most; they are drawn anew each time."
    )
    interval: int = described(
        4,
        "Frames of a clip from one that is tracked to the next, on average; forwards or backwards.",
    )
    tracked_frames: int = described(18, "How many frames of a clip are tracked, at most.")
    rate: float = described(5e-4, "Learning rate of the decoder at its height.")
    warmup: int = described(
        30, "Steps in which it rises; then it falls to zero like half a cosine."
    )
    weight_decay: float = described(1e-2, "Of AdamW.")
    cross_entropy: float = described(2.0, "Weight of the cross-entropy beside the Lovász loss.")
    clip: float = described(1.0, "Max norm of the gradient, which is scaled down to it.")
    seed: int = described(0, "Of the first weights and the windows.")

    def __post_init__(self) -> None:
        require_positive(
            self, "iterations batch_size record_every tracked_clips interval rate warmup clip"
        )
        require_not_negative(self, "weight_decay cross_entropy tracked_frames seed")
        require(self, "tracked_frames", "at least 2", lambda count: count >= 2)
        multiple = "a positive multiple of 16"
        require(self, "height width", multiple, lambda side: side > 0 and side % 16 == 0)
        require_sides(self, "height width")


class DecoderTraining(Training):
    """Trains the decoder of a network with `mask_label` on what it sees on video.

    The network tracks whole clips, in which its own masks are what it learns from, and its decoder
    learns to find the true ones in windows of their frames. Then it tracks them anew. What it is
    trained on is thus what it will meet; mini-sequences, whose target model learns from true masks
    alone, are easier.

    Args:
        network: is changed; moved to `device`.
        clips: to train on.
        validation: see there.
        settings: see there.
        device: where to train. Default: the CPU.

    Raises:
        InputError: the network's decoder corrects no mask, or windows are larger than its input.

    Source:
        Ross et al., A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
        Learning, AISTATS 2011 (DAgger), without its aggregation; the networks: Bhat et al.,
        Learning What to Learn, ECCV 2020.
    """

    def __init__(
        self,
        network: LWL,
        clips: Sequence[Clip],
        validation: Validation,
        settings: DecoderTrainingSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        if not network.decoder.corrects:
            raise InputError("network: its decoder corrects no mask; build it with mask_label")
        torch.manual_seed(settings.seed)
        self.settings, self.validation, self.device = settings, validation, torch.device(device)
        self.network = network.to(self.device)
        self.segmenter = LWLSegmenter(network, device=self.device)
        window = (settings.height, settings.width)
        largest = self.segmenter.mask_options.region.output
        if window[0] > largest[0] or window[1] > largest[1]:
            raise InputError(
                f"height, width: {window}, should be at most {largest}, the network's input"
            )
        self.replay = Replay(
            clips, settings.tracked_clips, settings.interval, settings.tracked_frames, window
        )
        network.requires_grad_(False)
        self.parameters = list(network.decoder.requires_grad_(True).parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.rate, weight_decay=settings.weight_decay
        )

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step.

        Returns:
            The cross-entropy and the Lovász loss.
        """
        settings = self.settings
        if iteration % settings.record_every == 0:
            self.network.eval()
            self.replay.record(self.segmenter)
        factor = cosine_rate(iteration, settings.iterations, warmup=settings.warmup)
        self.optimizer.param_groups[0]["lr"] = settings.rate * factor
        windows = self.replay.batch(settings.batch_size)
        images, scores, masks = (part.to(self.device) for part in windows)
        network = self.network.train()
        logits = network.decoder.correct(scores, network.seen_by_decoder(images), images)
        entropy = F.binary_cross_entropy_with_logits(logits, masks)
        lovasz = torch.stack([lovasz_sigmoid(*pair) for pair in zip(logits, masks, strict=True)])
        self.optimizer.zero_grad()
        loss: Tensor = settings.cross_entropy * entropy + lovasz.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip)
        self.optimizer.step()
        return {"train/cross-entropy": entropy.item(), "train/lovasz": lovasz.mean().item()}

    def rates(self) -> Figures:
        """Return the learning rate of the last step."""
        return {"rate/decoder": self.optimizer.param_groups[0]["lr"]}

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        return self.validation.figures(self.segmenter)

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `load_lwl` reads it."""
        save_lwl(self.network, folder / WEIGHTS)

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return the settings and the sizes of the network."""
        return {"settings": asdict(self.settings), "sizes": self.network.sizes}

    def parts(self) -> dict[str, Stateful]:
        """Return network, optimizer and what was tracked."""
        return {"network": self.network, "optimizer": self.optimizer, "replay": self.replay}
