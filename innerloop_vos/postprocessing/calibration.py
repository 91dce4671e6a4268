"""The level at which the scores of a least-squares filter separate object and background."""

import torch
from torch import Tensor

_ROUNDS = 5
_START = 0.6  # share of the max score, where even that is low


def calibrate(
    scores: Tensor,
    fraction: float = 0.65,
    lowest: float = 0.25,
    highest: float = 0.6,
    apart: float = 0.0,
) -> Tensor:
    """Shift and scale score maps so that 0 is the decision.

    Regularised least squares shrinks: the more a frame differs from the memory, the lower the
    scores on the object. The two classes are found in each map by the isodata method, and the
    decision level is at a fixed fraction between their means. No gradient passes through that
    search.

    Args:
        scores: about 1 on the object and 0 elsewhere, shape (*batch, h, w).
        fraction: place of the decision between the mean of the background (0) and of the object
            (1); above one half, since classes weighted equally favour the smaller one at the
            boundary.
        lowest: min decision level, for frames without the object.
        highest: max decision level, where the means are `apart`.
        apart: min distance of the two means. The scores of a blank frame also fall into two
            classes, close to each other: the decision level is then above both, however high.

    Returns:
        Scores in units of the distance between the two means, shape (*batch, h, w).

    Source:
        Ridler and Calvard, Picture Thresholding Using an Iterative Selection Method, 1978.
    """
    found = scores.detach().flatten(-2)
    level = (_START * found.amax(-1, keepdim=True)).clamp(min=lowest).clamp(max=0.5)
    distance = torch.ones_like(level)
    for _ in range(_ROUNDS):
        above = found > level
        count = above.sum(-1, keepdim=True)
        high = (found * above).sum(-1, keepdim=True) / count
        low = (found * ~above).sum(-1, keepdim=True) / (found.shape[-1] - count)
        both = (count > 0) & (count < found.shape[-1])
        distance = torch.where(both, high - low, distance).clamp(min=apart)
        middle = (low + fraction * distance).clamp(min=lowest)
        middle = torch.where(high - low < apart, middle, middle.clamp(max=highest))
        level = torch.where(both, middle, level)
    return (scores - level[..., None]) / distance[..., None]
