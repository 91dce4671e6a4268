"""Errors in masks, as a tracker makes them: something else is taken for the object, or a part lost.

All draws come from torch's global generator, so only its state has to be restored.
"""

import torch
from torch import Tensor

_GAINED, _LOST = (0.1, 0.5), (0.2, 0.7)
"""Half axes of an ellipse: of what is taken for the object, in units of the sides of the image; of
what is lost, in units of the root of the object's area."""


def with_errors(masks: Tensor, share: float) -> Tensor:
    """Add what an ellipse holds to some masks, and remove it from as many.

    An ellipse that is added may lie anywhere; one that is removed has its centre on the object.

    Args:
        masks: probability of the object, shape (S, H, W).
        share: of the masks that get an error, on average.

    Returns:
        Shape (S, H, W).
    """
    return torch.stack([_with_error(mask, share) for mask in masks])


def _with_error(mask: Tensor, share: float) -> Tensor:
    if torch.rand(()) >= share:
        return mask
    drawn = torch.rand(5).tolist()
    height, width = mask.shape
    inside = (mask > 0.5).nonzero()
    if drawn[4] < 0.5 or not len(inside):
        centre = (drawn[0] * height, drawn[1] * width)
        axes = [
            _between(_GAINED, part) * side
            for part, side in zip(drawn[2:4], mask.shape, strict=True)
        ]
        return mask.masked_fill(_ellipse(mask, centre, axes), 1.0)
    row, column = inside[int(drawn[0] * len(inside))].tolist()
    axes = [_between(_LOST, part) * len(inside) ** 0.5 for part in drawn[2:4]]
    return mask.masked_fill(_ellipse(mask, (row, column), axes), 0.0)


def _ellipse(mask: Tensor, centre: tuple[float, float], axes: list[float]) -> Tensor:
    rows, columns = (torch.arange(side, device=mask.device) for side in mask.shape)
    down, right = (rows - centre[0]) / axes[0], (columns - centre[1]) / axes[1]
    return down.square()[:, None] + right.square() <= 1


def _between(bounds: tuple[float, float], part: float) -> float:
    return bounds[0] + part * (bounds[1] - bounds[0])
