"""Boxes to train on, made from masks."""

import torch
from torch import Tensor

from innerloop_vos.io.masks import box_to_mask, mask_to_box


def boxes_around(masks: Tensor) -> Tensor:
    """Fill the boxes around masks.

    Args:
        masks: 0 or 1, shape (B, H, W); none is empty.

    Returns:
        1 inside the box and 0 outside, of the same shape and dtype.
    """
    size = masks.shape[1], masks.shape[2]
    return torch.stack([box_to_mask(mask_to_box(mask), size) for mask in masks]).to(masks)
