"""The COSNet network as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innerloop_vos.backbones import Backbone
from innerloop_vos.cosnet.model.co_attention import AFFINITIES, CoAttention
from innerloop_vos.cosnet.model.embedding import Embedding
from innerloop_vos.cosnet.model.head import SegmentationHead

FORMS = (*AFFINITIES, "none")
"""The forms of co-attention; with "none", every frame is segmented by itself."""


@dataclass(frozen=True)
class Seen:
    """What the network sees of images, each by itself.

    Attributes:
        images: RGB in 0..1, shape (B, 3, H, W).
        levels: the backbone's, by name.
        features: V, shape (B, C, h, w).
    """

    images: Tensor
    levels: Mapping[str, Tensor]
    features: Tensor


class COSNet(nn.Module):
    """A co-attention siamese network: finds the primary objects of a frame with the help of others.

    Args:
        backbone: feature extractor with levels at strides 4, 8 and 16.
        co_attention: its form, one of `FORMS`. Default "symmetric".
        channels: C of the features that are compared. Default 128.

    Attributes:
        autocast: precision to compute in, `torch.bfloat16` or `torch.float16`; None for that of
            the weights.

    Source:
        Lu et al., See More, Know More: Unsupervised Video Object Segmentation with Co-Attention
        Siamese Networks, CVPR 2019.
    """

    def __init__(
        self, backbone: Backbone, *, co_attention: str = "symmetric", channels: int = 128
    ) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {"co_attention": co_attention, "channels": channels}
        self.backbone = backbone
        self.embedding = Embedding(backbone, channels)
        self.co_attention = None if co_attention == "none" else CoAttention(co_attention, channels)
        self.head = SegmentationHead(backbone, channels)
        self.autocast: torch.dtype | None = None

    def train(self, mode: bool = True) -> "COSNet":
        super().train(mode)
        self.backbone.eval()  # its statistics are those of more images than a batch has
        return self

    def see(self, images: Tensor) -> Seen:
        """Look at images (B, 3, H, W), RGB in 0..1."""
        with self._autocast(images):
            levels = self.backbone(images)
            return Seen(images, levels, self.embedding(levels))

    def segment(self, seen: Seen, references: Tensor) -> Tensor:
        """Segment a frame of a video.

        Args:
            seen: one frame.
            references: features V of others, shape (N, C, h, w), any N.

        Returns:
            Logits of the primary objects, shape (H, W).
        """
        with self._autocast(seen.images):
            summary = torch.zeros_like(seen.features)
            if self.co_attention is not None and len(references):
                summary = self.co_attention(seen.features[0], references)[None]
            return self._head(seen, summary)[0][0]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Segment single images, or pairs of frames with the help of each other.

        A single image has an empty summary, as a frame has without references.

        Args:
            images: RGB in 0..1, shape (B, T, 3, H, W), T 1 or 2.

        Returns:
            Logits of the primary objects, shape (B, T, H, W), and coarse ones, (B, T, h, w).
        """
        seen = self.see(images.flatten(0, 1))
        with self._autocast(images):
            summary = torch.zeros_like(seen.features)
            if self.co_attention is not None and images.shape[1] == 2:
                pair = self.co_attention.pair(seen.features[::2], seen.features[1::2])
                summary = torch.stack(pair, dim=1).flatten(0, 1)
            fine, coarse = self._head(seen, summary)
        pairs = images.shape[:2]
        return fine.view(*pairs, *fine.shape[1:]), coarse.view(*pairs, *coarse.shape[1:])

    def _head(self, seen: Seen, summary: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.head(summary, seen.features, seen.levels, seen.images)
        return (fine.float(), coarse.float()) if self.autocast else (fine, coarse)

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, dtype=self.autocast, enabled=self.autocast is not None
        )
