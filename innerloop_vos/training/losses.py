"""Losses on masks: cross-entropy, and the Lovász extension of the Jaccard index."""

import torch
from torch import Tensor
from torch.nn import functional as F

_VOID = 255


def mask_losses(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy, and the Lovász loss averaged over the images that show the object.

    Args:
        logits: logits of the object, shape (S, T, H, W).
        masks: 1 on the object and 0 elsewhere, same shape, floating point.

    Returns:
        Both, shape ().
    """
    entropy = F.binary_cross_entropy_with_logits(logits, masks)
    pairs = zip(logits.flatten(0, 1), masks.flatten(0, 1), strict=True)
    shown = [lovasz_sigmoid(*pair) for pair in pairs if pair[1].any()]
    return entropy, torch.stack(shown).mean() if shown else entropy.new_zeros(())


def lovasz_sigmoid(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász-softmax loss of the foreground, on the sigmoid of its logits.

    All pixels form one set: pass several images for the loss of a whole batch, or average over
    calls for the mean loss of images.

    Args:
        logits: logits of the object, any shape.
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
        logits: logits of the object, shape (N, *any).
        masks: share of the object in each pixel, 0 to 1, same shape; pixels of 255 are ignored.

    Returns:
        The mean loss, shape ().

    Source:
        Berman et al., The Lovász-Softmax Loss, CVPR 2018, section 3.1.
    """
    masks = masks.to(logits)
    void = masks == _VOID
    # An error of 0 adds nothing, and is sorted behind all others.
    errors = (1 - logits * (2 * masks - 1)).masked_fill(void, 0)
    return _lovasz(errors.flatten(1), masks.masked_fill(void, 0).flatten(1)).mean()


def _lovasz(errors: Tensor, masks: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss at `errors`, (*, P), for masks of the same shape."""
    errors, order = errors.sort(descending=True)
    masks = masks.gather(-1, order)
    total = masks.sum(-1, keepdim=True)
    intersection = total - masks.cumsum(-1)
    union = total + (1 - masks).cumsum(-1)
    jaccard = 1 - intersection / union
    steps = jaccard.diff(prepend=torch.zeros_like(total))
    return (F.relu(errors) * steps).sum(-1)
