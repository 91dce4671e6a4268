"""What the target model is told to predict, and how much that counts: labels and weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.layers.projection import feature_size

_FINE = 4  # samples of the mask per label pixel, along each side
_MOST = 4.0
"""Of the logarithm of a learned factor of the squared weights."""


class LabelEncoder(nn.Module):
    """Turns a mask into labels and the weights that they share.

    The first label is the mask itself, as in ridge regression; the others are learned. The weights
    balance object and background, times a learned factor, which starts as one.

    Args:
        outputs: D, number of labels.
        width: channels of the layers before.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, sections 3.2 and 3.4, where each label has
        weights of its own; shared ones have sufficient statistics.
    """

    def __init__(self, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(_FINE**2, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.label_head = nn.Conv2d(width, outputs - 1, 3, padding=1)
        self.weight_head = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.weight_head.weight)
        nn.init.zeros_(self.weight_head.get_parameter("bias"))

    def forward(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Encode masks.

        Args:
            masks: probability of the object, shape (B, H, W).

        Returns:
            Labels, shape (B, D, h, w), and weights, shape (B, 1, h, w), at stride 8.
        """
        size = feature_size(masks)
        fine = F.interpolate(masks[:, None], [_FINE * side for side in size], mode="area")
        share = F.avg_pool2d(fine, _FINE)
        x = F.relu(self.conv1(F.pixel_unshuffle(fine, _FINE)))
        x = x + F.relu(self.conv2(x))
        x = x + F.relu(self.conv3(x))
        labels = torch.cat([share, self.label_head(x)], dim=1)
        # The root of the squared weights, whose logarithm is bounded.
        factor = (_MOST / 2 * torch.tanh(self.weight_head(x) / _MOST)).exp()
        return labels, _balance(share) * factor


def _balance(masks: Tensor) -> Tensor:
    """Weights that give object and background the same say; their mean square is 1."""
    classes = torch.stack([masks, 1 - masks])
    # A class without a pixel has no say.
    shares = classes / classes.sum((-2, -1), keepdim=True).clamp(min=1)
    return (shares.mean(0) * math.prod(masks.shape[-2:])).sqrt()
