"""Features of colour for the target model."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BANDWIDTH = 8.0
"""Radians per unit of red, green or blue: colours an eighth apart are hardly similar."""

_NORM = math.sqrt(2)
"""Of the features of a pixel; a level of the backbone has 1."""


class ColourFeatures(nn.Module):
    """Random Fourier features of colour, on which a linear filter is a smooth function of it.

    The filter of the target model can thus tell the colours of the object from those around it,
    which the levels of a small backbone tell only in part. They are not trained.

    Args:
        count: number of features, even: a cosine and a sine for each frequency.

    Source:
        Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NIPS 2007, algorithm 1,
        with a Gaussian kernel; in pairs: Sutherland and Schneider, On the Error of Random Fourier
        Features, UAI 2015.
    """

    frequencies: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(count // 2, 3, 1, 1, generator=generator, device="cpu")
        self.register_buffer("frequencies", _BANDWIDTH * drawn)

    def forward(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Compute the features of images, averaged over the pixels of each cell.

        Args:
            images: RGB in 0..1, shape (B, 3, H, W).
            size: h and w of the result.

        Returns:
            Shape (B, count, h, w).
        """
        # Half the resolution is enough, and half the precision is not.
        halved = F.avg_pool2d(images, 2)
        with torch.autocast(images.device.type, enabled=False):
            angles = F.conv2d(halved, self.frequencies)
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        scale = _NORM / math.sqrt(len(self.frequencies))
        return scale * F.interpolate(waves, tuple(size), mode="area")
