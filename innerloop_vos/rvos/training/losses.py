"""Losses of RVOS: masks by a soft intersection over union, and when to stop."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

MORE = 2
"""Predictions beyond the last object, from which is learned when to stop."""


def soft_iou(predicted: Tensor, true: Tensor) -> Tensor:
    """Intersection over union of every prediction and every object, over all pixels of a clip.

    ⟨Y, Ŷ⟩ / (|Y|₁ + |Ŷ|₁ - ⟨Y, Ŷ⟩). One ratio for the frames of a clip together counts pixels
    in frames that do not show the object too, where the ratio of a frame would have no gradient.

    Args:
        predicted: probabilities, shape (P, N), where N counts the pixels of all frames.
        true: masks, 0 to 1, shape (O, N).

    Returns:
        Shape (P, O), 0 to 1; 0 where there is nothing to intersect.

    Source:
        Romera-Paredes and Torr, Recurrent Instance Segmentation, ECCV 2016 (loss).
    """
    both = predicted @ true.T
    either = predicted.sum(1)[:, None] + true.sum(1) - both
    return both / either.clamp(min=1e-6)


def match(agreement: Tensor) -> tuple[Tensor, Tensor]:
    """Pair predictions and objects, each with one at most, with the greatest sum of agreements.

    Args:
        agreement: of P predictions and O objects, shape (P, O).

    Returns:
        The predictions and the objects of all min(P, O) pairs, each of shape (pairs,), int64.

    Source:
        Romera-Paredes and Torr, Recurrent Instance Segmentation, ECCV 2016 (loss); Kuhn, The
        Hungarian Method for the Assignment Problem, 1955.
    """
    pairs = linear_sum_assignment(agreement.detach().cpu().numpy(), maximize=True)
    predictions, objects = (torch.from_numpy(each).to(agreement.device) for each in pairs)
    return predictions, objects


def in_order(logits: Tensor, masks: Tensor) -> Tensor:
    """Bring predictions of a clip into the order of the objects that they are.

    It is decided once for the clip which prediction is which object, by all frames: a prediction
    keeps its object over time, and in a single frame it may be hidden. Only the first predictions,
    as many as there are objects, take part, so that the search can stop after them.

    Args:
        logits: of at least O predictions, shape (T, P, H, W).
        masks: of O objects, 0 or 1, shape (T, O, H, W).

    Returns:
        Those of the objects, shape (T, O, H, W).

    Source:
        Ventura et al., RVOS, CVPR 2019 (training).
    """
    first = logits[:, : masks.shape[1]]
    predicted, true = (x.transpose(0, 1).flatten(1) for x in (first.detach().sigmoid(), masks))
    predictions, objects = match(soft_iou(predicted, true))
    return first[:, predictions[objects.argsort()]]


def mask_losses(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the masks of a clip.

    Args:
        logits: of O objects, shape (T, O, H, W).
        masks: of the same, 0 or 1, same shape.

    Returns:
        One minus the mean soft intersection over union, and the cross-entropy, each of shape ().
    """
    predicted, true = (x.transpose(0, 1).flatten(1) for x in (logits.sigmoid(), masks))
    agreement = soft_iou(predicted, true).diagonal().mean()
    return 1 - agreement, F.binary_cross_entropy_with_logits(logits, masks)


def stop_loss(scores: Tensor, count: int) -> Tensor:
    """Binary cross-entropy of the scores, which should say how many objects there are.

    Args:
        scores: logits of there being so many objects, shape (T, P), P greater than `count`. Only
            the first two beyond the objects count.
        count: number of objects.

    Returns:
        The loss, shape ().

    Source:
        Romera-Paredes and Torr, Recurrent Instance Segmentation, ECCV 2016 (loss).
    """
    scores = scores[:, : count + MORE]
    there = (torch.arange(scores.shape[1], device=scores.device) < count).to(scores)
    return F.binary_cross_entropy_with_logits(scores, there.expand_as(scores))
