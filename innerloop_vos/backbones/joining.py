"""The concatenated levels of a backbone, as a target model sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError


def join_levels(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Concatenate feature maps of several strides, each normalised to unit length per pixel.

    The unit length gives every level and every pixel the same weight, whatever the backbone's
    scale; a constant channel gives a filter a bias.

    Args:
        levels: each of shape (N, channels, any, any).
        size: h and w of the result.

    Returns:
        Shape (N, sum of all channels + 1, h, w).
    """
    parts = [
        F.interpolate(F.normalize(level), size, mode="bilinear", align_corners=False)
        for level in levels
    ]
    return torch.cat([*parts, torch.ones_like(parts[0][:, :1])], dim=1)


def check_finite(features: Tensor) -> Tensor:
    """Return features as they are.

    Raises:
        InputError: one is not finite.
    """
    if not features.isfinite().all():
        raise InputError(
            "features: the backbone gives NaN or infinity; "
            "its weights hold such values, or overflow on this frame"
        )
    return features
