"""The segmentation module: from features and their summary to the mask, coarse to fine."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.refinement import Level, Residual, resized, unit_variance


class SegmentationHead(nn.Module):
    """Finds the primary objects in X = [Z, V], and draws them along what finer levels show.

    Args:
        backbone: whose levels there are, at strides 4, 8 and 16.
        features: C, channels of the features V and of their summary Z.
        widths: of the layers at strides 16, 8 and 4.
        dropout: share of the channels of the backbone that are left out in training.

    Source:
        Slide "COSNet: Segmentation Module".
    """

    def __init__(
        self,
        backbone: Backbone,
        features: int,
        widths: Sequence[int] = (96, 48, 32),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.joined = nn.Sequential(
            nn.Conv2d(2 * features, widths[0], 1), Residual(widths[0]), Residual(widths[0])
        )
        self.coarse = nn.Conv2d(widths[0], 1, 1)
        names = {level.stride: name for name, level in backbone.levels.items()}
        self.names = [names[8], names[4]]
        channels = [backbone.levels[name].channels for name in self.names]
        channels[-1] += 3  # the finest sees the image too
        self.levels = nn.ModuleList(
            Level(inputs, 1, *pair) for inputs, pair in zip(channels, pairwise(widths), strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(
        self, summary: Tensor, features: Tensor, levels: Mapping[str, Tensor], images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Segment images.

        Args:
            summary: Z, shape (B, C, h, w).
            features: V, of the same shape.
            levels: the backbone's.
            images: RGB in 0..1, shape (B, 3, H, W).

        Returns:
            Logits of the primary objects, shape (B, H, W), and coarse ones, (B, h, w), which the
            finer ones follow.
        """
        x = self.joined(torch.cat([summary, features], dim=1))
        coarse = self.coarse(F.relu(x))
        for name, level in zip(self.names, self.levels, strict=True):
            seen = self.dropout(unit_variance(levels[name]))
            if level is self.levels[-1]:
                image = F.interpolate(images, seen.shape[-2:], mode="area")
                seen = torch.cat([seen, 2 * image - 1], dim=1)
            x = level(seen, coarse, x)
        fine = self.head(F.relu(x))
        return resized(fine, images.shape[-2:])[:, 0], coarse[:, 0]
