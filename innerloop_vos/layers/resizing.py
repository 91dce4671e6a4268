"""Frames and masks at the size that a network looks at."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def shrunk(frame: Tensor, short_side: int) -> Tensor:
    """Turn a frame into an image whose shorter side is not longer than `short_side`.

    Args:
        frame: RGB, shape (3, H, W), uint8.
        short_side: in pixels.

    Returns:
        RGB in 0..1, shape (1, 3, h, w).
    """
    image = frame.float()[None] / 255
    scale = short_side / min(frame.shape[1:])
    if scale >= 1:
        return image
    size = [round(scale * side) for side in frame.shape[1:]]
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def averaged(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Average masks (O, H, W) over the pixels of another size."""
    if masks.shape[1:] == torch.Size(size):
        return masks
    return F.interpolate(masks[None], tuple(size), mode="area")[0]


def enlarged(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate logits (O, h, w) to another size."""
    if logits.shape[1:] == torch.Size(size):
        return logits
    return F.interpolate(logits[None], tuple(size), mode="bilinear", align_corners=False)[0]
