"""The training of LWL-lite: through the closed form, over frames that it tracks itself."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from innerloop_vos.backbones.folded import tuned_layers
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.data.windows import WindowSampler
from innerloop_vos.lwl_lite.builders import FAMILY
from innerloop_vos.lwl_lite.memory import TargetMemory
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.lwl_lite.options import LWLLiteOptions
from innerloop_vos.lwl_lite.segmenter import LWLLiteSegmenter
from innerloop_vos.lwl_lite.training.settings import LWLLiteSettings
from innerloop_vos.training.boxes import boxes_around
from innerloop_vos.training.descent import DescentTraining, Group
from innerloop_vos.training.errors import with_errors
from innerloop_vos.training.loop import Figures
from innerloop_vos.training.losses import mask_losses
from innerloop_vos.training.validation import Validation

_FIRST_WINDOWS = 24
"""Mini-sequences whose features the projection starts from."""

_AROUND_BOXES = (1.2, 3.0)
"""Sides of the windows in which masks in boxes are found, in units of the boxes'."""


class LWLLiteTraining(DescentTraining):
    """Trains LWL-lite to track, learning from its own masks, as it will.

    Args:
        network: is changed; moved to `device`.
        sampler: draws mini-sequences of `settings.frames` frames.
        validation: see there.
        settings: see there.
        fresh: whether the projection is to start from principal components.
        device: where to train. Default: the CPU.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.6.
    """

    def __init__(
        self,
        network: LWLLite,
        sampler: Sampler,
        validation: Validation,
        settings: LWLLiteSettings,
        *,
        fresh: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, _groups(network, settings), settings, device)
        self.settings, self.validation, self.network = settings, validation, network
        network.autocast = torch.bfloat16 if settings.bfloat16 else None
        self.options = LWLLiteOptions(half=settings.bfloat16)
        self.boxes = settings.box_rate > 0
        around = _AROUND_BOXES if self.boxes else None
        self.windows = WindowSampler(sampler, (settings.height, settings.width), around)
        self._fresh = fresh

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy and the Lovász loss of a batch."""
        settings = self.settings
        images, masks = (part.to(self.device) for part in self.windows.batch(settings.batch_size))
        entropy, lovasz = mask_losses(*self._tracked(images, masks))
        loss = settings.cross_entropy * entropy + lovasz
        return loss, {"cross-entropy": entropy, "lovasz": lovasz}

    def _tracked(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of some frames of images (S, T, 3, H, W), and their masks (S, any, H, W)."""
        network = self.network
        if self.boxes:
            seen = network.see(images[:, 0])
            return network.segment_box(seen, boxes_around(masks[:, 0]))[:, None], masks[:, :1]
        memory = TargetMemory(self.options.learning_rate, self.options.first_weight)
        errors = partial(with_errors, share=self.settings.errors)
        return network(images, masks[:, 0], memory, errors), masks[:, 1:]

    @torch.no_grad()
    def prepare(self) -> None:
        """Start the projection from principal components."""
        if self._fresh:
            images, _ = self.windows.batch(_FIRST_WINDOWS)
            images = images[:, 0].to(self.device)
            self.network.target_features.start_from(self.network.backbone(images), images)

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        segmenter = LWLLiteSegmenter(self.network, self.options, self.device)
        return self.validation.figures(segmenter, boxes=self.boxes)

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `lwl_lite` reads it."""
        FAMILY.save(self.network, folder / FAMILY.file)


def _groups(network: LWLLite, settings: LWLLiteSettings) -> list[Group]:
    if settings.box_rate:
        return [Group([network.box_encoder], settings.box_rate)]
    return [
        Group([network.decoder, network.label_encoder], settings.rate),
        Group([network.target_features], settings.projection_rate),
        Group([network.target_model], settings.regularization_rate, {"weight_decay": 0.0}),
        Group(tuned_layers(network.backbone), settings.backbone_rate),
    ]
