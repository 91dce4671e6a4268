"""The training of RVOS: over clips whose objects are given, and over those where they are not."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from innerloop_vos.backbones.folded import tuned_layers
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.data.several import SeveralSampler
from innerloop_vos.rvos.builders import FAMILY
from innerloop_vos.rvos.model.network import RVOS, Seen
from innerloop_vos.rvos.options import RVOSOptions, ZeroShotOptions
from innerloop_vos.rvos.segmenter import RVOSSegmenter
from innerloop_vos.rvos.training.held_out import found_figures
from innerloop_vos.rvos.training.losses import MORE, in_order, mask_losses, stop_loss
from innerloop_vos.rvos.training.settings import RVOSSettings
from innerloop_vos.rvos.training.unrolling import discover, follow, see
from innerloop_vos.rvos.zero_shot import RVOSZeroShotSegmenter
from innerloop_vos.training.boxes import boxes_around
from innerloop_vos.training.descent import DescentTraining, Group
from innerloop_vos.training.errors import with_errors
from innerloop_vos.training.loop import Figures
from innerloop_vos.training.validation import Validation


class RVOSTraining(DescentTraining):
    """Trains RVOS through its recurrences over objects and over frames.

    Args:
        network: is changed; moved to `device`.
        sampler: draws mini-sequences of `settings.frames` frames.
        validation: see there.
        settings: see there.
        device: where to train. Default: the CPU.

    Source:
        Ventura et al., RVOS: End-to-End Recurrent Network for Video Object Segmentation, CVPR 2019
        (training).
    """

    def __init__(
        self,
        network: RVOS,
        sampler: Sampler,
        validation: Validation,
        settings: RVOSSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, _groups(network, settings), settings, device)
        self.settings, self.validation, self.network = settings, validation, network
        network.autocast = torch.bfloat16 if settings.bfloat16 else None
        output = settings.height, settings.width
        self.scenes = SeveralSampler(sampler, output, settings.objects)
        self._inferred = False

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step; see `DescentTraining.step`."""
        settings = self.settings
        self._inferred = iteration >= settings.inferred_from * settings.iterations
        return super().step(iteration)

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the losses of a batch, of the tasks that are trained."""
        settings = self.settings
        parts: dict[str, Tensor] = {}
        images, masks = (part.to(self.device) for part in self.scenes.batch(settings.batch_size))
        frames = see(self.network, images)
        if settings.task != "zero-shot":
            parts |= self._given(frames, masks)
        if settings.task != "one-shot":
            parts |= self._found(frames, masks)
        weights = {"cross-entropy": settings.cross_entropy, "stop": settings.stop}
        weighed = [weights.get(name.split()[-1], 1.0) * part for name, part in parts.items()]
        return torch.stack(weighed).sum(), parts

    def _given(self, frames: list[Seen], masks: Tensor) -> dict[str, Tensor]:
        """Losses where objects are given."""
        share = self.settings.boxes
        firsts = [_boxed(each) if torch.rand(()) < share else each for each in masks[:, 0]]
        logits = follow(
            self.network,
            frames,
            masks,
            torch.stack(firsts),
            inferred=self._inferred,
            disturb=partial(with_errors, share=self.settings.errors),
        )
        pairs = [(found[:, : own.shape[1]], own) for found, own in _clips(logits, masks)]
        return _named("one-shot", pairs)

    def _found(self, frames: list[Seen], masks: Tensor) -> dict[str, Tensor]:
        """Losses where objects are not given."""
        logits, scores = discover(self.network, frames, masks.shape[2] + MORE)
        pairs = [(in_order(found, own), own) for found, own in _clips(logits, masks)]
        stops = [
            stop_loss(score, own.shape[1]) for score, (_, own) in zip(scores, pairs, strict=True)
        ]
        return _named("zero-shot", pairs) | {"stop": torch.stack(stops).mean()}

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips, in the tasks that are trained."""
        half = self.settings.bfloat16
        figures: Figures = {}
        if self.settings.task != "zero-shot":
            given = RVOSSegmenter(self.network, RVOSOptions(half=half), self.device)
            figures |= self.validation.figures(given)
        if self.settings.task != "one-shot":
            options = ZeroShotOptions(half=half)
            segmenter = RVOSZeroShotSegmenter(self.network, options, self.device)
            figures |= found_figures(segmenter, self.validation)
        return figures

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `rvos` reads it."""
        FAMILY.save(self.network, folder / FAMILY.file)


def _clips(logits: Tensor, masks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Predictions (T, P, H, W) of each clip, and the masks (T, O, H, W) of the objects it has."""
    for found, own in zip(logits, masks, strict=True):
        yield found, own[:, own[0].flatten(1).any(1)]


def _named(task: str, clips: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Losses of predictions and masks (T, O, H, W) of the same objects, clip by clip."""
    losses = torch.stack([torch.stack(mask_losses(*clip)) for clip in clips]).mean(0)
    return {task: losses[0], f"{task} cross-entropy": losses[1]}


def _boxed(masks: Tensor) -> Tensor:
    """Fill the boxes of the objects (O, H, W) that are there."""
    there = masks.flatten(1).any(1)
    boxes = torch.zeros_like(masks)
    boxes[there] = boxes_around(masks[there])
    return boxes


def _groups(network: RVOS, settings: RVOSSettings) -> list[Group]:
    return [
        Group([network.decoder], settings.rate),
        Group(tuned_layers(network.backbone), settings.backbone_rate),
    ]
