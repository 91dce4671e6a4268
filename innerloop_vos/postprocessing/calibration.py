"""Where the scores of a least-squares filter part object from background."""

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

    Least squares with regularization shrinks: the farther a frame is from the memory, the lower the
    scores on the object. The two classes are found in each map by the method of isodata, and the
    decision lies at a fixed fraction between their means. No gradient passes through that search.

    Args:
        scores: about 1 on the object and 0 elsewhere, shape (*batch, h, w).
        fraction: place of the decision between the mean of the background (0) and of the object
            (1); above one half, since classes weighted equally favour the smaller one at the
            boundary.
        lowest: min decision level, for frames without the object.
        highest: max decision level.
        apart: min distance of the two means. The scores of a frame that shows one thing alone,
            such as a blank one, fall into two classes as well, close to each other: the decision
            then lies above both.

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
        level = torch.where(both, (low + fraction * distance).clamp(lowest, highest), level)
    return (scores - level[..., None]) / distance[..., None]
