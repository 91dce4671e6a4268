"""Refinement from coarse to fine: levels of a backbone joined with scores."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Level(nn.Module):
    """Joins what the backbone sees, the scores and the deeper level.

    Args:
        inputs: channels of the backbone.
        scores: number of scores.
        deeper: channels of the deeper level, None if there is none.
        width: channels of the result.
    """

    def __init__(self, inputs: int, scores: int, deeper: int | None, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, width, 1)
        self.deeper = None if deeper is None else nn.Conv2d(deeper, width, 1)
        self.mix = nn.Conv2d(width + scores, width, 3, padding=1)
        self.blocks = nn.Sequential(Residual(width), Residual(width, dilation=2))

    def forward(self, seen: Tensor, scores: Tensor, deeper: Tensor | None) -> Tensor:
        """Map (B or 1, inputs, h, w), scores (B, D, any, any) and the deeper level to
        (B, width, h, w)."""
        size = seen.shape[-2:]
        x = F.relu(self.reduce(seen)).expand(len(scores), -1, -1, -1)
        if self.deeper is not None and deeper is not None:
            x = x + resized(self.deeper(F.relu(deeper)), size)
        joined = torch.cat([x, resized(scores, size)], dim=1)
        # channels_last is faster on CPU for so few channels.
        mixed: Tensor = self.mix(joined.contiguous(memory_format=torch.channels_last))
        return self.blocks(mixed)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions beside the identity, which they start as."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))  # type: ignore[no-any-return]


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate a map (B, C, any, any) to a size."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def unit_variance(level: Tensor) -> Tensor:
    """Scale a map (B, C, h, w) so that the channels of a pixel have the mean square 1."""
    return F.normalize(level) * math.sqrt(level.shape[1])
