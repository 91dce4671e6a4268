"""RVOS over the frames of clips, as it is trained."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from innerloop_vos.rvos.model.decoder import States
from innerloop_vos.rvos.model.network import RVOS, Found, Seen
from innerloop_vos.segmenter import soft_aggregate

_NOT_THERE = -20.0
"""Logit of an object that a clip does not have, where others of the batch have it."""


def see(network: RVOS, images: Tensor) -> list[Seen]:
    """Look at clips (B, T, 3, H, W), RGB in 0..1: what is seen of frame after frame of all B."""
    return network.see(images.transpose(0, 1).flatten(0, 1)).split(len(images))


def follow(
    network: RVOS,
    frames: Sequence[Seen],
    masks: Tensor,
    firsts: Tensor,
    *,
    inferred: bool,
    disturb: Callable[[Tensor], Tensor] = lambda masks: masks,
) -> Tensor:
    """Segment objects that are given in the first frame.

    The second frame is told the true masks of the first, as in a video.

    Args:
        network: the network.
        frames: of B clips, as of `see`.
        masks: of their objects, 0 or 1, shape (B, T, O, H, W).
        firsts: what the first frames are told, such as their masks, 0 to 1, shape (B, O, H, W).
        inferred: whether later frames are told the masks that were found in the frame before,
            through which no gradient goes, instead of the true ones.
        disturb: makes errors in the masks that frames after the second are told, shape (S, H, W).
            Default: none.

    Returns:
        Logits, shape (B, T, O, H, W).
    """
    there = masks[:, 0].flatten(2).any(2)
    found: list[Tensor] = []
    states: Sequence[States | None] = [None] * masks.shape[2]
    for t, seen in enumerate(frames):
        if not t:
            told = firsts
        elif t == 1:
            told = masks[:, 0]
        else:
            told = _merged(found[-1], there) if inferred else masks[:, t - 1]
            told = disturb(told.flatten(0, 1)).view_as(told)
        logits, _, states = _segment(network, seen, list(told.unbind(1)), states)
        found.append(logits)
    return torch.stack(found, dim=1)


def discover(network: RVOS, frames: Sequence[Seen], count: int) -> tuple[Tensor, Tensor]:
    """Find objects that are not given.

    Args:
        network: the network.
        frames: of B clips, as of `see`.
        count: P, number of predictions in each frame.

    Returns:
        Logits, shape (B, T, P, H, W), and logits of there being so many objects, shape (B, T, P).
    """
    found, scores = [], []
    states: Sequence[States | None] = [None] * count
    for seen in frames:
        logits, score, states = _segment(network, seen, [None] * count, states)
        found.append(logits)
        scores.append(score)
    return torch.stack(found, dim=1), torch.stack(scores, dim=1)


def _segment(
    network: RVOS, seen: Seen, told: Sequence[Tensor | None], before: Sequence[States | None]
) -> tuple[Tensor, Tensor, list[States]]:
    """Segment all objects of B frames: logits (B, P, H, W), scores (B, P) and states."""
    found: list[Found] = []
    for mask, own in zip(told, before, strict=True):
        found.append(network.segment(seen, mask, own, found[-1].states if found else None))
    logits = torch.stack([each.logits for each in found], dim=1)
    scores = torch.stack([each.score for each in found], dim=1)
    return logits, scores, [each.states for each in found]


@torch.no_grad()
def _merged(logits: Tensor, there: Tensor) -> Tensor:
    """Probabilities of the objects (B, O, H, W) that share the pixels, as a segmenter has them."""
    logits = logits.masked_fill(~there[..., None, None], _NOT_THERE)
    return torch.stack([soft_aggregate(each)[1:] for each in logits])
