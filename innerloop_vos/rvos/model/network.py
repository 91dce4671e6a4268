"""The RVOS network as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.refinement import resized
from innerloop_vos.rvos.model.decoder import Decoder, Recurrence, States


@dataclass(frozen=True)
class Seen:
    """What the network sees of frames, whatever the objects.

    Attributes:
        shared: of the gates of all levels, coarse to fine, each of shape (B, 4 width, h, w).
        size: height and width of the frames in pixels.
    """

    shared: list[Tensor]
    size: tuple[int, int]

    def split(self, count: int) -> "list[Seen]":
        """What is seen of the first `count` frames, the next as many, and so on."""
        parts = zip(*(torch.split(level, count) for level in self.shared), strict=True)
        return [Seen(list(shared), self.size) for shared in parts]


@dataclass(frozen=True)
class Found:
    """One object in each of B frames.

    Attributes:
        logits: of the object, shape (B, H, W).
        score: logit of there being such an object, rather than a stop, shape (B,).
        states: what the next object and the next frame are told.
    """

    logits: Tensor
    score: Tensor
    states: States


class RVOS(nn.Module):
    """Recurrent network for video object segmentation.

    The same network follows objects whose masks are given (one-shot) and finds objects by itself
    (zero-shot), where the masks of the frame before are left out.

    Args:
        backbone: feature extractor.
        widths: channels of the states, one per stride of the backbone, coarse to fine.
        recurrence: "S", over objects, "T", over frames, or "ST", over both. Default "ST". Without
            recurrence over objects, all that are found by themselves are the same.

    Attributes:
        autocast: precision of the convolutions, `torch.bfloat16` or `torch.float16`; None for that
            of the weights, which the states always have.

    Source:
        Ventura et al., RVOS: End-to-End Recurrent Network for Video Object Segmentation, CVPR 2019.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        widths: Sequence[int] = (48, 48, 32, 16),
        recurrence: Recurrence = "ST",
    ) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {"widths": list(widths), "recurrence": recurrence}
        self.backbone = backbone
        self.decoder = Decoder(backbone, widths, recurrence)
        self.autocast: torch.dtype | None = None

    def train(self, mode: bool = True) -> "RVOS":
        super().train(mode)
        self.backbone.eval()  # its statistics are those of more images than a batch has
        return self

    def see(self, images: Tensor) -> Seen:
        """Look at images (B, 3, H, W), RGB in 0..1."""
        with self._autocast(images):
            shared = self.decoder.see(self.backbone(images))
        return Seen(shared, (images.shape[-2], images.shape[-1]))

    def segment(
        self,
        seen: Seen,
        masks: Tensor | None = None,
        before: States | None = None,
        neighbour: States | None = None,
    ) -> Found:
        """Segment one object in each of B frames.

        Args:
            seen: the frames.
            masks: probability of the object in the frame before, or what is known of it in this
                one, shape (B, H, W). Default: nothing is known.
            before: its states in the frame before. Default: it is new.
            neighbour: states of the object before it in the same frame. Default: it is the first.
        """
        with self._autocast(seen.shared[0]):
            logits, score, states = self.decoder(
                seen.shared, None if masks is None else masks[:, None], before, neighbour
            )
        if self.autocast:
            logits, score = logits.float(), score.float()
        logits = resized(logits, seen.size)[:, 0]
        return Found(logits, score, states)

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, dtype=self.autocast, enabled=self.autocast is not None
        )
