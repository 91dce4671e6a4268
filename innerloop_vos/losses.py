"""Losses on masks: the Lovász extension of the Jaccard index."""

import torch
from torch import Tensor
from torch.nn import functional as F

_VOID = 255


def lovasz_sigmoid(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász-softmax loss of the foreground, on the sigmoid of its logits.

    All pixels count as one set: give several images for the loss of a batch as a whole, and average
    over calls for the mean of the losses of the images.

    Args:
        logits: of the object, any shape.
        masks: 1 on the object and 0 elsewhere, same shape.

    Returns:
        The loss, shape (), 0 to 1.

    Source:
        Berman et al., The Lovász-Softmax Loss, CVPR 2018, eq. 11, for one class.
    """
    masks = masks.to(logits)
    errors = (masks - logits.sigmoid()).abs()
    return _lovasz(errors.flatten(), masks.flatten())


def lovasz_hinge(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász hinge loss, averaged over images.

    Args:
        logits: of the object, shape (N, *any).
        masks: share of the object in each pixel, 0 to 1, same shape; pixels of 255 are ignored.

    Returns:
        The mean loss, shape ().

    Source:
        Berman et al., The Lovász-Softmax Loss, CVPR 2018, section 3.1.
    """
    losses = []
    for scores, mask in zip(logits, masks.to(logits), strict=True):
        seen = mask != _VOID
        scores, mask = scores[seen], mask[seen]
        losses.append(_lovasz(1 - scores * (2 * mask - 1), mask))
    return torch.stack(losses).mean()


def _lovasz(errors: Tensor, masks: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss at `errors`, for masks of the same shape (P,)."""
    errors, order = errors.sort(descending=True)
    masks = masks[order]
    total = masks.sum()
    intersection = total - masks.cumsum(0)
    union = total + (1 - masks).cumsum(0)
    jaccard = 1 - intersection / union
    steps = jaccard.diff(prepend=jaccard.new_zeros(1))
    return (F.relu(errors) * steps).sum()
