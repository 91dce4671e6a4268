"""The feature embedding: from the levels of the backbone to the features that are compared."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.layers.refinement import Residual, resized, unit_variance


class Embedding(nn.Module):
    """Joins the levels at strides 8 and 16, and gives each location its surroundings.

    These are seen at several distances, by dilated convolutions, and as a whole, by the mean over
    the frame.

    Args:
        backbone: whose levels there are.
        channels: C of the result. Default 128.
        dilations: of the blocks.

    Source:
        Slide "COSNet: Features Embedding Module", which takes DeepLabv3; here made lighter.
    """

    def __init__(
        self, backbone: Backbone, channels: int = 128, dilations: Sequence[int] = (2, 4, 8)
    ) -> None:
        super().__init__()
        self.reduce = nn.ModuleDict(
            {
                name: nn.Conv2d(level.channels, channels, 1)
                for name, level in backbone.levels.items()
                if level.stride >= 8
            }
        )
        self.coarsest = list(backbone.levels)[-1]
        self.whole = nn.Conv2d(channels, channels, 1)
        self.blocks = nn.Sequential(
            *(Residual(channels, dilation, channels // 2) for dilation in dilations)
        )

    def forward(self, levels: Mapping[str, Tensor]) -> Tensor:
        """Embed frames.

        Args:
            levels: the backbone's.

        Returns:
            Features V at stride 16, shape (B, C, h, w), whose mean square is 1 at each location.
        """
        size = levels[self.coarsest].shape[-2:]
        parts = [
            _resized(reduce(unit_variance(levels[name])), size)
            for name, reduce in self.reduce.items()
        ]
        x = torch.stack(parts).sum(0)
        x = x + self.whole(F.relu(x).mean((2, 3), keepdim=True))
        return unit_variance(self.blocks(x.contiguous(memory_format=torch.channels_last)))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps at a size: averaged where that is smaller."""
    if maps.shape[-2] > size[0]:
        return F.interpolate(maps, tuple(size), mode="area")
    return resized(maps, size)
