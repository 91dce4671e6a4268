"""What COSNet's masks are measured by in training."""

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.training.losses import lovasz_sigmoid


def balanced_cross_entropy(logits: Tensor, masks: Tensor, least: float) -> Tensor:
    """Cross-entropy in which the smaller of foreground and background has the larger weight.

    Args:
        logits: of the foreground, shape (B, H, W).
        masks: 1 on the foreground and 0 elsewhere, of the same shape.
        least: least weight of each of the two, 0 to 0.5; the weights add up to 1.

    Returns:
        The mean over all pixels, shape (), in which weights of 0.5 count once.

    Source:
        Slide "COSNet: Training", weighted binary cross-entropy.
    """
    share = masks.mean((1, 2), keepdim=True).clamp(least, 1 - least)
    weights = torch.where(masks > 0.5, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits, masks, 2 * weights)


def lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász loss averaged over the images (B, H, W) that show something, shape ()."""
    pairs = zip(logits, masks, strict=True)
    shown = [lovasz_sigmoid(*pair) for pair in pairs if pair[1].any()]
    return torch.stack(shown).mean() if shown else logits.new_zeros(())
