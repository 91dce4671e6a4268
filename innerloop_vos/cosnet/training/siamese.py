"""COSNet trained on pairs of frames and on single images, in turns."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones.folded import tuned_layers
from innerloop_vos.cosnet.builders import FAMILY
from innerloop_vos.cosnet.model.network import COSNet
from innerloop_vos.cosnet.options import COSNetOptions
from innerloop_vos.cosnet.segmenter import COSNetSegmenter
from innerloop_vos.cosnet.training.losses import balanced_cross_entropy
from innerloop_vos.cosnet.training.settings import COSNetSettings
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.data.scenes import SceneSampler
from innerloop_vos.training.descent import DescentTraining, Group
from innerloop_vos.training.loop import Figures
from innerloop_vos.training.losses import mask_losses
from innerloop_vos.training.validation import UnsupervisedValidation


class COSNetTraining(DescentTraining):
    """Trains COSNet to find the primary objects: steps on pairs and on images take turns.

    An image step trains all but the co-attention, as the summary of an image is empty.

    Args:
        network: is changed; moved to `device`.
        videos: draws pairs of frames of a video. None: every step is on images.
        images: draws single images. None: every step is on pairs. One of both is given.
        validation: see there.
        settings: see there.
        device: where to train. Default: the CPU.

    Source:
        Slide "COSNet: Training", where images train the backbone with a convolution of their own
        in place of the segmentation module.
    """

    def __init__(
        self,
        network: COSNet,
        videos: Sampler | None,
        images: Sampler | None,
        validation: UnsupervisedValidation,
        settings: COSNetSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, _groups(network, settings), settings, device)
        self.settings, self.validation, self.network = settings, validation, network
        network.autocast = torch.bfloat16 if settings.bfloat16 else None
        size = settings.height, settings.width
        turns = ((videos, settings.batch_size), (images, 2 * settings.batch_size))
        self.turns = [(SceneSampler(kind, size), count) for kind, count in turns if kind]
        self._turn = 0

    def step(self, iteration: int) -> Figures:
        """Take one optimizer step, on what has its turn."""
        self._turn = iteration % len(self.turns)
        return super().step(iteration)

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the losses of a batch."""
        settings = self.settings
        scenes, count = self.turns[self._turn]
        images, masks = (part.to(self.device) for part in scenes.batch(count))
        logits, coarse = self.network(images)
        entropy = balanced_cross_entropy(logits, masks, settings.balance)
        _, lovasz = mask_losses(logits, masks)
        shares = F.interpolate(masks, coarse.shape[-2:], mode="area")
        rough = balanced_cross_entropy(coarse, shares, settings.balance)
        loss = entropy + settings.lovasz * lovasz + settings.coarse * rough
        return loss, {"cross-entropy": entropy, "lovasz": lovasz, "coarse": rough}

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        options = COSNetOptions(half=self.settings.bfloat16)
        return self.validation.figures(COSNetSegmenter(self.network, options, self.device))

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `cosnet` reads it."""
        FAMILY.save(self.network, folder / FAMILY.file)


def _groups(network: COSNet, settings: COSNetSettings) -> list[Group]:
    own: list[nn.Module] = [network.embedding, network.head]
    if network.co_attention is not None:
        own.append(network.co_attention)
    return [
        Group(own, settings.rate),
        Group(tuned_layers(network.backbone), settings.backbone_rate),
    ]
