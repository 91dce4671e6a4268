"""What COSNet's masks are measured by in training."""

from torch import Tensor
from torch.nn import functional as F


def balanced_cross_entropy(logits: Tensor, masks: Tensor, least: float) -> Tensor:
    """Cross-entropy in which the smaller of foreground and background has the larger weight.

    Args:
        logits: of the foreground, shape (*any, H, W).
        masks: share of the foreground in each pixel, 0 to 1, of the same shape.
        least: least weight of each of the two, 0 to 0.5; the weights add up to 1.

    Returns:
        The mean over all pixels, shape (), in which weights of 0.5 count once.

    Source:
        Slide "COSNet: Training", weighted binary cross-entropy.
    """
    share = masks.mean((-2, -1), keepdim=True).clamp(least, 1 - least)
    weights = 2 * (masks * (1 - share) + (1 - masks) * share)
    return F.binary_cross_entropy_with_logits(logits, masks, weights)
