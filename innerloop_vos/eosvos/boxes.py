"""Boxes around masks, which carry an object's place from frame to frame."""

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes


def mask_boxes(masks: Tensor) -> Tensor:
    """Find the boxes of masks.

    Args:
        masks: shape (n, H, W), none of them empty.

    Returns:
        (left, top, right, bottom) in pixels, right and bottom beyond the last pixel; (n, 4).
    """
    boxes: Tensor = masks_to_boxes(masks)
    return boxes + torch.tensor([0.0, 0, 1, 1], device=masks.device)


def jittered_boxes(mask: Tensor, count: int, jitter: float) -> Tensor:
    """Draw boxes around an object, none smaller than its own, none beyond the image.

    Args:
        mask: where the object is, shape (H, W), bool.
        count: number of boxes.
        jitter: max share of its width or height that each side is moved outward by.

    Returns:
        The boxes, shape (count, 4); (0, 4) if the mask is empty.

    Source:
        Meinhardt and Leal-Taixé, Make One-Shot Video Object Segmentation Efficient Again, NeurIPS
        2020, section 3.3.
    """
    if not mask.any():
        return torch.empty(0, 4, device=mask.device)
    left, top, right, bottom = mask_boxes(mask[None])[0]
    width, height = right - left, bottom - top
    outward = torch.stack([-width, -height, width, height])
    box = torch.stack([left, top, right, bottom])
    boxes = box + jitter * torch.rand(count, 4, device=mask.device) * outward
    size = torch.tensor([mask.shape[1], mask.shape[0]] * 2, device=mask.device)
    return boxes.clamp(min=0).minimum(size)
