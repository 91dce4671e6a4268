"""What the target model sees of a frame."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.projection import Projection

KERNEL = 3
"""Side of the target model's filters."""

_CONSTANT = 0.3
"""The channel that gives filters a bias, beside levels of unit length."""


class TargetFeatures(Projection):
    """A projection of the backbone's levels, of such a scale that λ can be the same for all.

    A patch under a filter has the norm 1 on average, so that regularization depends neither on the
    scale of features nor on the size of the image.

    Args:
        backbone: whose levels there are.
        channels: C of the result, the last of which is constant.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.4.
    """

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__(backbone, channels - 1)

    def forward(self, levels: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Compute the target features of images, shape (B, C, ceil(H / 8), ceil(W / 8))."""
        found = super().forward(levels, images)
        found = torch.cat([found, torch.full_like(found[:, :1], _CONSTANT)], dim=1)
        square = found.square().sum((1, 2, 3), keepdim=True)
        return found * (math.prod(found.shape[-2:]) / square).sqrt() / KERNEL
