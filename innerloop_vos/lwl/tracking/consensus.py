"""One score from those of two filters, of which only one sees colours."""

import torch
from torch import Tensor


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
