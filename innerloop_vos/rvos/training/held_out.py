"""How well objects that nobody pointed out are found in held-out clips."""

from statistics import fmean

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.rvos.training.losses import match, soft_iou
from innerloop_vos.scoring import SequenceScores, score_sequence
from innerloop_vos.training.loop import Figures
from innerloop_vos.training.validation import Validation
from innerloop_vos.unsupervised import UnsupervisedSegmenter


def found_figures(segmenter: UnsupervisedSegmenter, validation: Validation) -> Figures:
    """Find the objects of clips and measure J and F of those that are annotated.

    Which of the objects found is an annotated one is decided in the first frame.

    Args:
        segmenter: segmenter that is started anew on every clip.
        validation: the clips.

    Returns:
        The means over all annotated objects as "held out/zero-shot J" and "held out/zero-shot F",
        and the J of every clip; empty if there are no clips.

    Raises:
        InputError: a clip has no annotation of its first frame.

    Source:
        Ventura et al., RVOS, CVPR 2019 (unsupervised video object segmentation).
    """
    scores = [_score(segmenter, clip, validation.frames) for clip in validation.clips]
    if not scores:
        return {}
    region = fmean(fmean(o.region) for s in scores for o in s.objects)
    contour = fmean(fmean(o.contour) for s in scores for o in s.objects)
    by_clip = {f"zero-shot J/{s.name}": fmean(fmean(o.region) for o in s.objects) for s in scores}
    return {"held out/zero-shot J": region, "held out/zero-shot F": contour} | by_clip


def _score(segmenter: UnsupervisedSegmenter, clip: Clip, count: int) -> SequenceScores:
    frames = clip.frames[:count]
    truths = [None] * len(frames) if clip.masks is None else list(clip.masks[:count])
    if truths[0] is None:
        raise InputError(f"sequence {clip.name} has no annotation of its first frame")
    segmenter.start(frames)
    found = [segmenter.step(frame) for frame in frames]
    ids = _same(found[0], truths[0])
    # Objects that come later, or that nobody annotated, do not count.
    table = torch.zeros(256, dtype=torch.uint8)
    for theirs, ours in ids.items():
        table[theirs] = ours
    renamed = [table[labels.long()] for labels in found]
    return score_sequence(clip.name, clip.frames.names[:count], renamed, truths)


def _same(found: Tensor, true: Tensor) -> dict[int, int]:
    """The annotated object of each that was found, by their ids in one frame (H, W)."""
    theirs, ours = (labels.flatten().bincount()[1:].nonzero()[:, 0] + 1 for labels in (found, true))
    masks = [
        (labels == ids[:, None, None]).flatten(1).float()
        for labels, ids in ((found, theirs), (true, ours))
    ]
    predictions, objects = match(soft_iou(*masks))
    return dict(zip(theirs[predictions].tolist(), ours[objects].tolist(), strict=True))
