"""The common part of backbones: image normalisation and named feature levels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

Colour = tuple[float, float, float]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone.

    Args:
        channels: number of channels.
        stride: image pixels per feature pixel; the map has `ceil(H / stride)` rows.
    """

    channels: int
    stride: int


class Backbone(nn.Module, ABC):
    """A network that turns RGB images into feature maps of several levels.

    Args:
        levels: the feature maps that `forward` returns, by name, fine to coarse.
        target_levels: names of the levels that a target model sees together.
        mean: of the colours 0..1 that the network expects, RGB. Default: ImageNet's.
        std: their standard deviation. Default: ImageNet's.

    Attributes:
        levels: see Args.
        target_levels: see Args.
    """

    mean: Tensor
    std: Tensor

    unused: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names in weight files that belong to layers left out here."""

    def __init__(
        self,
        levels: Mapping[str, Level],
        target_levels: tuple[str, ...],
        mean: Colour = _IMAGENET_MEAN,
        std: Colour = _IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.levels = dict(levels)
        self.target_levels = target_levels
        # Not persistent, as the weight files of torchvision do not contain them.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of images.

        Args:
            images: RGB in 0..1, not normalised, shape `(N, 3, H, W)` of any `H` and `W`.

        Returns:
            For each name in `levels` a map of shape
            `(N, channels, ceil(H / stride), ceil(W / stride))`.
        """
        # channels_last halves the time of these convolutions on CPU.
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.extract(images)

    @abstractmethod
    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of normalised images, by level."""
