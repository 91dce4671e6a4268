"""Contour accuracy F."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.errors import InputError
from innerloop_vos.scoring.mask_pair import binary_pair


def contour_accuracy(
    prediction: torch.Tensor, truth: torch.Tensor, tolerance: float = 0.008
) -> float:
    """F-measure of the contour points that lie near the other mask's contour (F).

    Args:
        prediction: (H, W) mask, boolean or integer; nonzero is the object.
        truth: (H, W) mask, boolean or integer; nonzero is the object.
        tolerance: max distance at which two contour points match: below 1 a fraction of the image
            diagonal (rounded up to whole pixels), from 1 on in pixels. Default 0.008.

    Returns:
        F in [0, 1]; 1 where neither mask has a contour, 0 where only one has. A mask that is
        empty or fills the frame has none.

    Raises:
        InputError: a mask is not an (H, W) tensor of booleans or integers, the sizes differ, or the
            tolerance is negative or not finite.

    Source:
        Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object
        Segmentation, CVPR 2016, section 4.1, with the benchmark's own approximation of the
        bipartite matching by dilation with a disk.
    """
    if not 0 <= tolerance < math.inf:
        raise InputError(f"tolerance must be finite and not negative, got {tolerance}")
    predicted, true = (_contour(mask) for mask in binary_pair(prediction, truth))
    if not predicted.any() or not true.any():
        return float(predicted.any() == true.any())
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*true.shape))
    # Only the box around both contours matters: neither has a point outside it.
    box = _bounding_box(predicted | true)
    predicted, true = predicted[box], true[box]
    precision = float(_dilate(true, radius)[predicted].mean())
    recall = float(_dilate(predicted, radius)[true].mean())
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels that differ from their right, lower or lower right neighbour."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, lower, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    contour: NDArray[np.bool_] = (mask != right) | (mask != lower) | (mask != diagonal)
    return contour


def _bounding_box(points: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows = np.flatnonzero(points.any(axis=1))
    columns = np.flatnonzero(points.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _dilate(points: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Dilate by the disk of all offsets no longer than the radius.

    Each row of the disk is one run of pixels; running sums along the image rows show for every
    pixel whether its run holds a point. This is several times faster than a distance transform.
    """
    height, width = points.shape
    reach = int(radius)
    sums = np.pad(points, ((reach, reach), (reach + 1, reach))).cumsum(axis=1, dtype=np.int32)
    dilated = np.zeros_like(points)
    for offset in range(-reach, reach + 1):
        half = math.isqrt(int(radius**2) - offset**2)
        rows = sums[reach + offset : reach + offset + height]
        before = rows[:, reach - half : reach - half + width]
        through = rows[:, reach + half + 1 : reach + half + 1 + width]
        dilated |= through != before
    return dilated
