"""Random copies of the first frame."""

import torch
from torch import Tensor

from innerloop_vos.data.augment import affine_matrix, warp_image
from innerloop_vos.eosvos.finetuning import Batch
from innerloop_vos.eosvos.options import EOSVOSOptions


def augmented_copies(frames: Batch, options: EOSVOSOptions) -> Batch:
    """Make the copies of each frame that one fine-tuning step learns from; see `augmented`."""
    pairs = zip(*frames, strict=True)
    copies = [augmented(*pair, options) for pair in pairs for _ in range(options.copies)]
    return Batch(*map(list, zip(*copies, strict=True)))


def augmented(image: Tensor, mask: Tensor, options: EOSVOSOptions) -> tuple[Tensor, Tensor]:
    """Mirror, rotate and scale an image and the mask of its object.

    Args:
        image: RGB, shape (3, H, W).
        mask: where the object is, shape (H, W), bool.
        options: options with the max rotation and the range of scales.

    Returns:
        Image and mask, of the same shapes. An object that would leave the image stays in place.
    """
    flip, turn, stretch = torch.rand(3).tolist()
    smallest, largest = options.scale
    factor = smallest + (largest - smallest) * stretch
    angle = options.rotation * (2 * turn - 1)
    matrix = affine_matrix(angle, (factor, factor), (mask.shape[0], mask.shape[1]))
    # In one warp: beyond the border the image is repeated, so an object that touches it continues.
    warped = warp_image(torch.cat([image, mask[None].to(image)]), matrix)
    found = warped[3] > 0.5
    if found.any():
        image, mask = warped[:3], found
    if options.flip and flip < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)
    return image, mask
