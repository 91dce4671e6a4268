"""The LWL-lite network as a whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import innerloop as il
from innerloop_vos.backbones import Backbone
from innerloop_vos.lwl_lite.memory import TargetMemory
from innerloop_vos.lwl_lite.model.box_encoder import BoxEncoder
from innerloop_vos.lwl_lite.model.decoder import Decoder
from innerloop_vos.lwl_lite.model.features import TargetFeatures
from innerloop_vos.lwl_lite.model.label_encoder import LabelEncoder
from innerloop_vos.lwl_lite.model.target_model import TargetModel


@dataclass(frozen=True)
class Seen:
    """What the network sees of images, whatever the objects.

    Attributes:
        images: RGB in 0..1, shape (B, 3, H, W).
        levels: the backbone's, by name.
        features: the target model's, shape (B, C, h, w).
    """

    images: Tensor
    levels: Mapping[str, Tensor]
    features: Tensor


class LWLLite(nn.Module):
    """Learning What to Learn whose target model is solved in closed form.

    Args:
        backbone: feature extractor with levels at strides 4, 8 and 16.
        features: C, channels of the target features. Default 96.
        outputs: D, number of labels and scores. Default 16.

    Attributes:
        autocast: precision of the backbone and the decoder, `torch.bfloat16` or `torch.float16`;
            None for that of the weights, which the closed form always has.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020.
    """

    def __init__(self, backbone: Backbone, *, features: int = 96, outputs: int = 16) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {"features": features, "outputs": outputs}
        self.backbone = backbone
        self.target_features = TargetFeatures(backbone, features)
        self.label_encoder = LabelEncoder(outputs)
        self.target_model = TargetModel()
        self.decoder = Decoder(backbone, outputs)
        self.box_encoder = BoxEncoder(features, outputs)
        self.autocast: torch.dtype | None = None

    def train(self, mode: bool = True) -> "LWLLite":
        super().train(mode)
        self.backbone.eval()  # its statistics are those of more images than a batch has
        return self

    def see(self, images: Tensor) -> Seen:
        """Look at images (B, 3, H, W), RGB in 0..1."""
        with self._autocast(images):
            levels = self.backbone(images)
        return Seen(images, levels, self.target_features(levels, images))

    def learn(self, seen: Seen, masks: Tensor) -> il.Statistics:
        """What the target model is to remember of frames.

        Args:
            seen: B frames, or one that all objects share.
            masks: probability of one object a frame, shape (B, H, W).

        Returns:
            Statistics of B problems.
        """
        labels, weights = self.label_encoder(masks)
        features = seen.features.expand(len(masks), -1, -1, -1)
        return self.target_model.statistics(features, labels, weights)

    def segment(self, filters: Tensor, anchors: Tensor, seen: Seen, before: Tensor) -> Tensor:
        """Segment frames.

        Args:
            filters: of the target model, shape (B, D, C, K, K).
            anchors: of the target model that knows the first frame alone, its first filters, shape
                (B, 1, C, K, K).
            seen: B frames, or one that all objects share.
            before: probability of each object in the frame before, shape (B, H, W).

        Returns:
            Logits, shape (B, H, W).
        """
        scores = self.target_model.score(torch.cat([filters, anchors], dim=1), seen.features)
        return self._decode(scores, seen, before)

    def segment_box(self, seen: Seen, boxes: Tensor) -> Tensor:
        """Segment the objects in boxes.

        Args:
            seen: B frames.
            boxes: 1 inside the box and 0 outside, shape (B, H, W).

        Returns:
            Logits, shape (B, H, W).
        """
        scores = self.box_encoder(seen.features, boxes)
        return self._decode(torch.cat([scores, scores[:, :1]], dim=1), seen)

    def _decode(self, scores: Tensor, seen: Seen, before: Tensor | None = None) -> Tensor:
        with self._autocast(scores):
            logits: Tensor = self.decoder(scores, seen.levels, seen.images, before)
        return logits.float() if self.autocast else logits

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, dtype=self.autocast, enabled=self.autocast is not None
        )

    def forward(
        self,
        images: Tensor,
        masks: Tensor,
        memory: TargetMemory,
        disturb: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Track one object a sequence, learning from the masks that are found.

        No gradient goes through these masks.

        Args:
            images: RGB in 0..1, shape (S, T, 3, H, W).
            masks: of the object in the first image, 0 to 1, shape (S, H, W).
            memory: an empty one, which remembers the sequences.
            disturb: makes errors in masks that are found, shape (S, H, W), of which the next frames
                know. Default: none.

        Returns:
            Logits of all images but the first, shape (S, T - 1, H, W).
        """
        memory.start(self.learn(self.see(images[:, 0]), masks))
        filters = self.target_model.fit(memory.statistics())
        anchors = filters[:, :1]
        logits: list[Tensor] = []
        for t, image in enumerate(images[:, 1:].unbind(1), start=1):
            seen = self.see(image)
            logits.append(self.segment(filters, anchors, seen, masks))
            masks = logits[-1].detach().sigmoid()
            if t + 1 < images.shape[1]:
                masks = disturb(masks) if disturb else masks
                memory.add(self.learn(seen, masks))
                filters = self.target_model.fit(memory.statistics())
        return torch.stack(logits, dim=1)
