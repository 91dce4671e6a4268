"""How far what is found in a frame is trusted: what is shown of it, and what is learned from it.

A filter that learns from its own doubtful masks drifts. These functions say what is doubtful.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_SUBSAMPLING = 4  # pixels of the frame per pixel looked at
_FAINT = -1.0
"""Logit above which a pixel belongs to a part; below 0, for what is not quite the object yet."""

_MARGIN = 2  # pixels looked at, around a part


def far_parts(logits: Tensor, previous: Tensor, reach: float, least: float) -> Tensor:
    """Find the parts of masks that appear far from where the objects were.

    A part is connected, also over corners. Where the object was hardly to be seen, or all parts are
    far from it, none counts as far: it may have come back, or moved fast.

    Args:
        logits: of the objects, shape (O, H, W).
        previous: masks of the previous frame, shape (O, H, W), bool.
        reach: max distance of a part from the mask before, in units of the root of its area.
        least: pixels from which on an object can be seen.

    Returns:
        Where the far parts are, shape (O, H, W), bool.
    """
    every = (..., slice(None, None, _SUBSAMPLING), slice(None, None, _SUBSAMPLING))
    found = (logits > _FAINT)[every].cpu().numpy()
    before = previous[every].cpu().numpy()
    least = least / _SUBSAMPLING**2
    far = torch.from_numpy(
        np.stack([_far(*pair, reach, least) for pair in zip(found, before, strict=True)])
    ).to(logits.device)
    for axis in (-2, -1):
        far = far.repeat_interleave(_SUBSAMPLING, axis).narrow(axis, 0, logits.shape[axis])
    return far


def _far(found: np.ndarray, before: np.ndarray, reach: float, least: float) -> np.ndarray:
    parts, count = ndimage.label(found, np.ones((3, 3)))
    area = np.count_nonzero(before)
    if count < 2 or area < max(least, 1):
        return np.zeros_like(found)
    distances = ndimage.minimum(ndimage.distance_transform_edt(~before), parts, range(1, count + 1))
    far = np.isin(parts, 1 + np.flatnonzero(distances > reach * np.sqrt(area)))
    near = found & ~far
    if not near.any():
        return np.zeros_like(found)
    around: np.ndarray = ndimage.binary_dilation(far, iterations=_MARGIN)
    around &= ~ndimage.binary_dilation(near)
    return around


def out_of_sight(
    logits: Tensor, previous: Tensor, present: Tensor, reach: float | None, least: float
) -> Tensor:
    """Find where objects cannot be: nowhere if they are absent, and not far from where they were.

    Args:
        logits: of the objects, shape (O, H, W).
        previous: masks of the previous frame, shape (O, H, W), bool.
        present: which objects are there, shape (O,), bool.
        reach: as of `far_parts`. None: they may be anywhere.
        least: as of `far_parts`.

    Returns:
        Shape (O, H, W), bool.
    """
    nowhere = ~present[:, None, None].expand_as(logits)
    return nowhere if reach is None else nowhere | far_parts(logits, previous, reach, least)


def appears(scores: Tensor, presence: float | None) -> Tensor:
    """Whether each object is anywhere in its target scores.

    Args:
        scores: of which the first is about 1 where the object is, shape (O, D, h, w).
        presence: what that score must reach somewhere. None: objects are always there.

    Returns:
        Shape (O,), boolean.
    """
    if presence is None:
        return torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    return scores[:, 0].amax((1, 2)) >= presence


def consensus(coloured: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the target scores of a filter that sees colours and of one that does not.

    Colours tell the outline of an object best, but what has its colours need not be the object.
    Where the first filter has more of the mask than the second, the scores thus go over to the
    second's by as much: d more becomes d - d² more, and nothing from 1. A filter that learns from
    such a mask still comes to see whatever has the object's colours; so it learns the lower ones.

    Args:
        coloured: scores of which the first is the mask's, shape (O, D, h, w).
        plain: the same of the filter that does not see colours.

    Returns:
        The scores to segment by, and those to learn from, each of shape (O, D, h, w).
    """
    excess = (coloured[:, :1] - plain[:, :1]).clamp(0, 1)
    return coloured.lerp(plain, excess), torch.minimum(coloured, plain)
