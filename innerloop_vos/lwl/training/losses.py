"""The losses that LWL is trained with, of logits and masks of shape (*batch, H, W)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.training.losses import lovasz_sigmoid


def frame_lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of the Lovász losses of all frames.

    Args:
        logits: of the object, shape (*batch, H, W).
        masks: 1 on the object and 0 elsewhere, same shape.

    Returns:
        The loss, shape (), 0 to 1.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, eq. 5.
    """
    frames = zip(logits.flatten(0, -3), masks.flatten(0, -3), strict=True)
    return torch.stack([lovasz_sigmoid(*frame) for frame in frames]).mean()


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, its mean over pixels, frames and sequences; as `frame_lovasz`.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, appendix F, Table 7.
    """
    return F.binary_cross_entropy_with_logits(logits, masks.to(logits))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "joint": lovasz_sigmoid,
    "frames": frame_lovasz,
    "cross-entropy": cross_entropy,
}
"""By name; `joint` is the released system's, one sort of all pixels."""
