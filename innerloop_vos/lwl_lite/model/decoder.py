"""The decoder: from target scores and backbone levels to the mask, coarse to fine."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.refinement import Level, resized, unit_variance
from innerloop_vos.postprocessing.calibration import calibrate

_SHARPNESS = 6.0
"""Start of the slope of the logit in a calibrated score."""


class Decoder(nn.Module):
    """Segments the target that the scores point out.

    The calibrated first score is the mask that ridge regression finds. The decoder adds to its
    logit what it knows better from the other scores, from what the backbone sees, from where the
    target was in the frame before, and from the anchor: the first score of the target model that
    knows the first frame alone, which no error misleads.

    Args:
        backbone: whose levels there are, at strides 4, 8 and 16.
        scores: D, number of target scores.
        widths: of the levels at strides 16, 8 and 4.
        dropout: share of the channels of the backbone that are left out in training, and of the
            times that the frame before is.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.4 and appendix B.2, made
        lighter.
    """

    def __init__(
        self,
        backbone: Backbone,
        scores: int,
        widths: Sequence[int] = (64, 48, 32),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        strides = sorted({level.stride for level in backbone.levels.values()}, reverse=True)
        self.names = [
            [name for name, level in backbone.levels.items() if level.stride == stride]
            for stride in strides
        ]
        channels = [sum(backbone.levels[name].channels for name in names) for names in self.names]
        # The finest level sees the image too, and of the scores only the first.
        channels[-1] += 3
        joined = [scores + 3] * (len(strides) - 1) + [1]
        deeper = [None, *widths[:-1]]
        self.levels = nn.ModuleList(
            Level(inputs, count, below, width)
            for inputs, count, below, width in zip(channels, joined, deeper, widths, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.get_parameter("bias"))
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))

    def forward(
        self,
        scores: Tensor,
        levels: Mapping[str, Tensor],
        images: Tensor,
        before: Tensor | None = None,
    ) -> Tensor:
        """Segment images.

        Args:
            scores: target scores and the anchor, shape (B, D + 1, h, w).
            levels: the backbone's, of these images, or of one image that all share.
            images: RGB in 0..1, shape (B or 1, 3, H, W).
            before: probability of the target in the frame before, shape (B, H, W). Default:
                unknown.

        Returns:
            Logits of the target, shape (B, H, W).
        """
        scores = self._with_before(scores, before)
        x: Tensor | None = None
        for names, level in zip(self.names, self.levels, strict=True):
            seen = torch.cat([unit_variance(levels[name]) for name in names], dim=1)
            seen = self.dropout(seen)
            if level is self.levels[-1]:
                image = F.interpolate(images, seen.shape[-2:], mode="area")
                seen, scores = torch.cat([seen, 2 * image - 1], dim=1), scores[:, :1]
            x = level(seen, scores, x)
        assert x is not None
        logits = self.sharpness * resized(scores, x.shape[-2:]) + self.head(F.relu(x))
        return resized(logits, images.shape[-2:])[:, 0]

    def _with_before(self, scores: Tensor, before: Tensor | None) -> Tensor:
        """The first score calibrated, the other scores, the first as it is, the frame before, and
        the anchor."""
        raw, anchor = scores[:, :1], scores[:, -1:]
        if before is None:
            known = torch.zeros_like(raw)
        else:
            known = 2 * F.interpolate(before[:, None], raw.shape[-2:], mode="area") - 1
            if self.training:
                there = torch.rand(len(known), 1, 1, 1, device=known.device) >= self.dropout.p
                known = known * there
        return torch.cat([calibrate(raw), scores[:, 1:-1], raw, known.to(raw), anchor], dim=1)
