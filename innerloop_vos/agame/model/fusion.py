"""Mask propagation, and its fusion with the appearance model to a coarse mask."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DILATIONS = (1, 2, 4, 8)


class MaskPropagation(nn.Module):
    """Tells from the mask of the frame before, and the features of this one, where the object is.

    Args:
        channels: C of the features.
        width: channels of the result.

    Source:
        Johnander et al., A Generative Appearance Model, CVPR 2019, section 3.3: three convolutions,
        of which the second is a pyramid of dilations.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.conv1 = nn.Conv2d(channels + 1, width, 3, padding=1)
        self.pyramid = nn.ModuleList(
            nn.Conv2d(width, width // len(_DILATIONS), 3, padding=dilation, dilation=dilation)
            for dilation in _DILATIONS
        )
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor, before: Tensor) -> Tensor:
        """Map features (B or 1, C, h, w) and the masks before (B, h, w) to (B, width, h, w)."""
        seen = features.expand(len(before), -1, -1, -1)
        x = F.relu(self.conv1(torch.cat([seen, 2 * before[:, None] - 1], dim=1)))
        x = F.relu(torch.cat([conv(x) for conv in self.pyramid], dim=1))
        return F.relu(self.conv3(x))


class Fusion(nn.Module):
    """Joins what appearance and propagation say, and predicts a coarse mask.

    Args:
        inputs: channels of both together.
        width: channels of the result.

    Source:
        Johnander et al., A Generative Appearance Model, CVPR 2019, section 3.4.
    """

    def __init__(self, inputs: int, width: int = 48) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.coarse = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map parts (B, any, h, w) to a coding (B, width, h, w) and coarse logits (B, 1, h, w)."""
        x = F.relu(self.conv1(torch.cat(list(parts), dim=1)))
        coding = self.conv2(x)
        return coding, self.coarse(F.relu(coding))
