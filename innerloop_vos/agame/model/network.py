"""The A-GAME network as a whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innerloop_vos.agame.model.appearance import AppearanceModel, Gaussians
from innerloop_vos.agame.model.fusion import Fusion, MaskPropagation
from innerloop_vos.agame.model.upsampling import Upsampling
from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.projection import Projection
from innerloop_vos.layers.resizing import averaged

LEARNING_RATE = 0.1
"""λ of the appearance model, unless given."""


@dataclass(frozen=True)
class Seen:
    """What the network sees of images, whatever the objects.

    Attributes:
        images: RGB in 0..1, shape (B, 3, H, W).
        levels: the backbone's, by name.
        features: those that the appearance model is fitted to, shape (B, C, h, w).
    """

    images: Tensor
    levels: Mapping[str, Tensor]
    features: Tensor

    def coarse(self, masks: Tensor) -> Tensor:
        """Masks (B, H, W) at the size of the features."""
        return averaged(masks, self.features.shape[-2:])


class AGAME(nn.Module):
    """A generative appearance model for end-to-end video object segmentation.

    Args:
        backbone: feature extractor with levels at strides 4, 8 and 16.
        features: C, channels of the features of the appearance model. Default 64.
        components: of the appearance model: 4, 2 for one Gaussian a class, or 0 for none.
        propagation: whether the mask of the frame before is propagated. Default True.

    Attributes:
        autocast: precision of the layers, `torch.bfloat16` or `torch.float16`; None for that of the
            weights, which the appearance model always has.

    Raises:
        ValueError: there is neither an appearance model nor propagation.

    Source:
        Johnander et al., A Generative Appearance Model for End-to-end Video Object Segmentation,
        CVPR 2019, at stride 8 instead of 16.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        features: int = 64,
        components: int = 4,
        propagation: bool = True,
    ) -> None:
        super().__init__()
        if not components and not propagation:
            raise ValueError("propagation: False, should be True where components is 0")
        self.sizes: dict[str, Any] = {
            "features": features,
            "components": components,
            "propagation": propagation,
        }
        self.backbone = backbone
        self.projection = Projection(backbone, features)
        self.appearance = AppearanceModel(features, components) if components else None
        self.propagation = MaskPropagation(features) if propagation else None
        self.fusion = Fusion(components + (self.propagation.width if self.propagation else 0))
        self.upsampling = Upsampling(backbone, self.fusion.conv2.out_channels)
        self.autocast: torch.dtype | None = None

    def train(self, mode: bool = True) -> "AGAME":
        """Set training mode, but for the backbone, which stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def see(self, images: Tensor) -> Seen:
        """Look at images, RGB in 0..1, shape (B, 3, H, W)."""
        images = images.contiguous(memory_format=torch.channels_last)
        with self._autocast(images):
            levels = self.backbone(images)
        found = self.projection(levels, images)
        scale = found.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-12).rsqrt()
        return Seen(images, levels, found * scale)

    def start(self, seen: Seen, masks: Tensor) -> Gaussians:
        """Fit the appearance model to first frames.

        Args:
            seen: B frames, or one that all objects share.
            masks: probability of one object a frame, shape (B, H, W).
        """
        if self.appearance is None:
            return {}
        features = seen.features.expand(len(masks), -1, -1, -1)
        return self.appearance.start(features, seen.coarse(masks))

    def update(
        self, gaussians: Gaussians, seen: Seen, masks: Tensor, rate: float | Tensor
    ) -> Gaussians:
        """Move the appearance model towards later frames; arguments as of its `update`."""
        if self.appearance is None:
            return {}
        features = seen.features.expand(len(masks), -1, -1, -1)
        return self.appearance.update(gaussians, features, seen.coarse(masks), rate)

    def segment(self, gaussians: Gaussians, seen: Seen, before: Tensor) -> tuple[Tensor, Tensor]:
        """Segment frames.

        Args:
            gaussians: the appearance models of B objects.
            seen: B frames, or one that all objects share.
            before: probability of each object in the frame before, shape (B, H, W).

        Returns:
            Logits, shape (B, H, W), and the coarse ones, shape (B, h, w).
        """
        parts = []
        if self.appearance is not None:
            parts.append(self.appearance.scores(gaussians, seen.features))
        with self._autocast(seen.features):
            if self.propagation is not None:
                parts.append(self.propagation(seen.features, seen.coarse(before)))
            coding, coarse = self.fusion(parts)
            logits = self.upsampling(coding, coarse, seen.levels, seen.images)
        return logits.float(), coarse[:, 0].float()

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, dtype=self.autocast, enabled=self.autocast is not None
        )

    def forward(
        self,
        images: Tensor,
        masks: Tensor,
        rate: float = LEARNING_RATE,
        disturb: Callable[[Tensor], Tensor] = lambda masks: masks,
    ) -> tuple[Tensor, Tensor]:
        """Track one object a sequence, learning from the masks that are found.

        The gradient goes through these masks, to all frames before.

        Args:
            images: RGB in 0..1, shape (S, T, 3, H, W).
            masks: of the object in the first image, 0 to 1, shape (S, H, W).
            rate: λ of the appearance model, 0 to 1. Default 0.1.
            disturb: makes errors in masks that are found, shape (S, H, W), of which the next frames
                learn. Default: none.

        Returns:
            Logits of all images but the first, shape (S, T - 1, H, W), and the coarse ones, shape
            (S, T - 1, h, w).
        """
        gaussians = self.start(self.see(images[:, 0]), masks)
        found: list[tuple[Tensor, Tensor]] = []
        for t, image in enumerate(images[:, 1:].unbind(1), start=1):
            seen = self.see(image)
            found.append(self.segment(gaussians, seen, masks))
            masks = disturb(found[-1][0].sigmoid())
            if rate and t + 1 < images.shape[1]:
                gaussians = self.update(gaussians, seen, masks, rate)
        logits, coarse = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
        return logits, coarse
