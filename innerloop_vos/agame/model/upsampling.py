"""Upsampling: from the coarse coding to the mask, joined with successively shallower features."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.projection import STRIDE
from innerloop_vos.layers.refinement import Level, resized, unit_variance


class Upsampling(nn.Module):
    """Refines a coding of the mask at stride 8, by the backbone's levels at strides 8 and 4.

    Args:
        backbone: whose levels there are.
        coding: channels of the coding.
        widths: of the two levels.
        dropout: share of the channels of the backbone that are left out in training.

    Source:
        Johnander et al., A Generative Appearance Model, CVPR 2019, section 3.5, after Pinheiro et
        al., Learning to Refine Object Segments, ECCV 2016.
    """

    def __init__(
        self,
        backbone: Backbone,
        coding: int,
        widths: tuple[int, int] = (48, 32),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        strides = sorted({level.stride for level in backbone.levels.values()}, reverse=True)
        self.names = [
            [name for name, level in backbone.levels.items() if level.stride == stride]
            for stride in strides
            if stride <= STRIDE
        ]
        channels = [sum(backbone.levels[name].channels for name in names) for names in self.names]
        channels[-1] += 3  # the finest level sees the image too
        deeper = [coding, *widths[:-1]]
        self.levels = nn.ModuleList(
            Level(inputs, 1, below, width)
            for inputs, below, width in zip(channels, deeper, widths, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.get_parameter("bias"))

    def forward(
        self, coding: Tensor, coarse: Tensor, levels: Mapping[str, Tensor], images: Tensor
    ) -> Tensor:
        """Segment images.

        Args:
            coding: of the masks, shape (B, coding, h, w).
            coarse: their logits, shape (B, 1, h, w), which the result adds to.
            levels: the backbone's, of these images or of one that all objects share.
            images: RGB in 0..1, shape (B or 1, 3, H, W).

        Returns:
            Logits, shape (B, H, W).
        """
        x, known = coding, coarse.sigmoid()
        for names, level in zip(self.names, self.levels, strict=True):
            seen = self.dropout(torch.cat([unit_variance(levels[name]) for name in names], dim=1))
            if level is self.levels[-1]:
                image = F.interpolate(images, seen.shape[-2:], mode="area")
                seen = torch.cat([seen, 2 * image - 1], dim=1)
            x = level(seen, known, x)
        logits = resized(coarse, x.shape[-2:]) + self.head(F.relu(x))
        return resized(logits, images.shape[-2:])[:, 0]
