"""What an inner solver sees of a frame: a few channels, learned from the backbone's many."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.backbones.joining import check_finite

STRIDE = 8
"""Image pixels per pixel of the features."""

_COLOURS = 16
"""Frequencies of the colour features."""

_BANDWIDTH = 8.0
"""Radians per unit of red, green or blue: colours an eighth apart are hardly similar."""


def feature_size(images: Tensor) -> tuple[int, int]:
    """Height and width of the features of images (..., H, W)."""
    height, width = (-(-side // STRIDE) for side in images.shape[-2:])
    return height, width


class Projection(nn.Module):
    """Projects all levels of a backbone, and random Fourier features of the colour, together.

    Every level has unit length per pixel before.

    Args:
        backbone: whose levels there are.
        channels: C of the result.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, section 3.4 (projection); Rahimi and Recht,
        Random Features for Large-Scale Kernel Machines, NIPS 2007, algorithm 1 (colour).
    """

    frequencies: Tensor

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        inputs = {name: level.channels for name, level in backbone.levels.items()}
        self.projections = nn.ModuleDict(
            {
                name: nn.Conv2d(count, channels, 1, bias=False)
                for name, count in (inputs | {"colour": 2 * _COLOURS}).items()
            }
        )
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(_COLOURS, 3, 1, 1, generator=generator, device="cpu")
        self.register_buffer("frequencies", _BANDWIDTH * drawn)

    def forward(self, levels: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            levels: the backbone's, of these images.
            images: RGB in 0..1, shape (B, 3, H, W).

        Returns:
            Shape (B, C, ceil(H / 8), ceil(W / 8)).

        Raises:
            InputError: a feature is not finite.
        """
        size = feature_size(images)
        # A projection commutes with a resizing, and is faster on the smaller map.
        parts = [
            _resized(self.projections[name](level), size)
            for name, level in self.inputs(levels, images).items()
        ]
        return check_finite(torch.stack(parts).sum(0))

    def inputs(self, levels: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
        """What is projected, by name; arguments as of `forward`."""
        colours = self._colours(F.interpolate(images, feature_size(images), mode="area"))
        wide = {name: level.to(images.dtype) for name, level in levels.items()}
        return {name: F.normalize(level) for name, level in wide.items()} | {"colour": colours}

    def _colours(self, images: Tensor) -> Tensor:
        """Features (B, 2 frequencies, h, w) of unit length per pixel."""
        angles = F.conv2d(images, self.frequencies)
        return torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(len(self.frequencies))

    @torch.no_grad()
    def start_from(self, levels: Mapping[str, Tensor], images: Tensor) -> None:
        """Let the projection be that to the principal components of the inputs of some images.

        Args:
            levels, images: as of `forward`.
        """
        size = feature_size(images)
        inputs = self.inputs(levels, images)
        joined = torch.cat([_resized(part, size) for part in inputs.values()], dim=1)
        rows = joined.movedim(1, 0).flatten(1).double()
        count = self.projections["colour"].get_parameter("weight").shape[0]
        components = torch.linalg.eigh(rows @ rows.mT).eigenvectors[:, -count:].mT
        sizes = [part.shape[1] for part in inputs.values()]
        for name, weight in zip(inputs, components.split(sizes, dim=1), strict=True):
            self.projections[name].get_parameter("weight").copy_(weight[..., None, None])


def _resized(level: Tensor, size: Sequence[int]) -> Tensor:
    """A level (B, C, any, any) at a size: averaged where that is smaller."""
    if level.shape[-2] > size[0]:
        return F.interpolate(level, tuple(size), mode="area")
    return F.interpolate(level, tuple(size), mode="bilinear", align_corners=False)
