"""What is done to feature maps everywhere: another size, another scale."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps (B, C, any, any) bilinearly to a size (h, w)."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def unit_variance(maps: Tensor) -> Tensor:
    """Scale the channels (B, C, h, w) of each location so that their mean square is 1."""
    return F.normalize(maps) * math.sqrt(maps.shape[1])
