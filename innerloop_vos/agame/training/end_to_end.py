"""The training of A-GAME: through its appearance model, over frames that it tracks itself."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.agame.builders import FAMILY
from innerloop_vos.agame.model.network import AGAME
from innerloop_vos.agame.options import AGAMEOptions
from innerloop_vos.agame.segmenter import AGAMESegmenter
from innerloop_vos.agame.training.settings import AGAMESettings
from innerloop_vos.backbones.folded import tuned_layers
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.data.windows import WindowSampler
from innerloop_vos.training.descent import DescentTraining, Group
from innerloop_vos.training.errors import with_errors
from innerloop_vos.training.loop import Figures
from innerloop_vos.training.losses import mask_losses
from innerloop_vos.training.validation import Validation

_FIRST_WINDOWS = 24
"""Mini-sequences whose features the projection starts from."""


class AGAMETraining(DescentTraining):
    """Trains A-GAME to track, learning from its own masks, as it will.

    Args:
        network: is changed; moved to `device`.
        sampler: draws mini-sequences of `settings.frames` frames.
        validation: see there.
        settings: see there.
        fresh: whether the projection is to start from principal components.
        device: where to train. Default: the CPU.

    Source:
        Johnander et al., A Generative Appearance Model, CVPR 2019, section 3.6, with the Lovász
        loss beside the cross-entropy.
    """

    def __init__(
        self,
        network: AGAME,
        sampler: Sampler,
        validation: Validation,
        settings: AGAMESettings,
        *,
        fresh: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, _groups(network, settings), settings, device)
        self.settings, self.validation, self.network = settings, validation, network
        network.autocast = torch.bfloat16 if settings.bfloat16 else None
        self.windows = WindowSampler(sampler, (settings.height, settings.width))
        self._fresh = fresh

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the losses of a batch."""
        settings = self.settings
        images, masks = (part.to(self.device) for part in self.windows.batch(settings.batch_size))
        disturb = partial(with_errors, share=settings.errors)
        logits, coarse = self.network(images, masks[:, 0], settings.learning_rate, disturb)
        entropy, lovasz = mask_losses(logits, masks[:, 1:])
        shares = F.interpolate(masks[:, 1:], coarse.shape[-2:], mode="area")
        rough = F.binary_cross_entropy_with_logits(coarse, shares)
        loss = settings.cross_entropy * entropy + lovasz + settings.coarse * rough
        return loss, {"cross-entropy": entropy, "lovasz": lovasz, "coarse": rough}

    @torch.no_grad()
    def prepare(self) -> None:
        """Start the projection from principal components."""
        if self._fresh:
            images, _ = self.windows.batch(_FIRST_WINDOWS)
            images = images[:, 0].to(self.device)
            self.network.projection.start_from(self.network.backbone(images), images)

    def evaluate(self) -> Figures:
        """Return J and F of the held-out clips."""
        options = AGAMEOptions(
            half=self.settings.bfloat16, learning_rate=self.settings.learning_rate
        )
        return self.validation.figures(AGAMESegmenter(self.network, options, self.device))

    def export(self, folder: Path) -> None:
        """Write the network with all it needs, as `agame` reads it."""
        FAMILY.save(self.network, folder / FAMILY.file)


def _groups(network: AGAME, settings: AGAMESettings) -> list[Group]:
    layers = [network.fusion, network.upsampling]
    if network.propagation is not None:
        layers.append(network.propagation)
    appearance = [network.appearance] if network.appearance is not None else []
    return [
        Group(layers, settings.rate),
        Group([network.projection], settings.projection_rate),
        Group(appearance, settings.appearance_rate, {"weight_decay": 0.0}),
        Group(tuned_layers(network.backbone), settings.backbone_rate),
    ]
