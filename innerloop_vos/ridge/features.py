"""The features of a frame, and the few channels of them that a target model sees."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop_vos.backbones import Backbone
from innerloop_vos.backbones.joining import check_finite

Maps = list[Tensor]
"""The levels of one frame, each of shape (channels, any, any), of unit length per pixel."""


class TargetFeatures(nn.Module):
    """A backbone's target levels, normalised to unit length per pixel.

    The unit length gives every level and every pixel the same weight, whatever the backbone's
    scale.

    Args:
        backbone: the network; its `target_levels` are used.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Maps:
        """Compute the features of an image.

        Args:
            image: RGB in 0..1, shape (3, H, W).

        Returns:
            The levels, in the order of `target_levels`.

        Raises:
            InputError: a feature is not finite.
        """
        levels = self.backbone(image[None])
        return [check_finite(F.normalize(levels[name])[0]) for name in self.backbone.target_levels]


class PrincipalChannels:
    """The projection of all channels to those in which one frame varies most, and a constant one.

    The frame's object and its background have the same weight, however large they are.

    Args:
        weight: orthonormal directions, shape (count, channels).
        offset: what they see in the frame's mean, shape (count,).
        size: h and w of the result.
    """

    def __init__(self, weight: Tensor, offset: Tensor, size: tuple[int, int]) -> None:
        self.weight = weight
        self.offset = offset
        self.size = size

    @classmethod
    def of(cls, levels: Maps, weights: Tensor, count: int) -> "PrincipalChannels":
        """Find the channels of a frame.

        Args:
            levels: its features.
            weights: of its pixels, summing to one, shape (h, w).
            count: max number of channels.

        Returns:
            The projection of this and other frames of the video to maps of h x w pixels.
        """
        height, width = weights.shape
        pixels = torch.cat([_resize(level, (height, width)).flatten(1) for level in levels])
        shares = weights.flatten()
        mean = pixels @ shares
        centred = pixels - mean[:, None]
        _, directions = torch.linalg.eigh((centred * shares) @ centred.T)  # least variance first
        weight = directions[:, -count:].T.contiguous()
        return cls(weight, weight @ mean, (height, width))

    def __call__(self, levels: Maps) -> Tensor:
        """Project the features of a frame: shape (count + 1, h, w); the last channel is one."""
        total = -self.offset[:, None, None]
        weights = torch.split(self.weight, [len(level) for level in levels], dim=1)
        for weight, level in zip(weights, levels, strict=True):
            # Projected before it is resized, which comes to the same and is cheaper.
            projected = torch.einsum("dc,chw->dhw", weight, level)
            total = total + _resize(projected, self.size)
        return torch.cat([total, torch.ones_like(total[:1])])

    def state_dict(self) -> dict[str, Any]:
        """Return the directions, what they see in the mean, and the size."""
        return {"weight": self.weight, "offset": self.offset, "size": self.size}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device) -> "PrincipalChannels":
        """Make the projection that a `state_dict` is of, on a device."""
        return cls(state["weight"].to(device), state["offset"].to(device), state["size"])


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
