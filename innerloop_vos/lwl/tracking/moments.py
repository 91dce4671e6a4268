"""Where an object is and how large, from its mask."""

import torch
from torch import Tensor


def target_state(probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Measure objects by the moments of their masks.

    Args:
        probabilities: of each object, shape (O, H, W).

    Returns:
        The centres (y, x) and the sizes (h, w), four standard deviations, each of shape (O, 2) in
        pixels; and the areas, shape (O,). Centre and size of an area of zero are not finite.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, appendix C, algorithm 1.
    """
    areas = probabilities.sum((1, 2))
    centres, sizes = [], []
    for axis in (1, 2):
        profile = probabilities.sum(3 - axis) / areas[:, None]
        place = torch.arange(profile.shape[1], device=profile.device, dtype=profile.dtype)
        centre = (profile * place).sum(1)
        centres.append(centre)
        sizes.append(4 * (profile * (place - centre[:, None]).square()).sum(1).sqrt())
    return torch.stack(centres, 1), torch.stack(sizes, 1), areas
