"""Held-out clips on which a training measures itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from innerloop.errors import InputError
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.data.sequence import annotated
from innerloop_vos.io.masks import mask_to_box
from innerloop_vos.scoring import SequenceScores, score_sequence, score_unsupervised
from innerloop_vos.segmenter import Segmenter
from innerloop_vos.unsupervised import UnsupervisedSegmenter


@dataclass(frozen=True)
class Validation:
    """The clips on which a training measures itself.

    Args:
        clips: annotated clips, which are segmented from their first masks.
        frames: number of frames per clip, from the first.
    """

    clips: Sequence[Clip]
    frames: int

    def figures(self, segmenter: Segmenter, *, boxes: bool = False) -> dict[str, float]:
        """Segment the clips and measure J and F.

        Args:
            segmenter: segmenter that is started anew on every clip.
            boxes: whether to start from the box around each first mask.

        Returns:
            The means over all objects as "held out/J" and "held out/F", and the J of every clip;
            empty if there are no clips.

        Raises:
            InputError: a clip has no annotation of its first frame.
        """
        return _figures([self.score(segmenter, clip, boxes=boxes) for clip in self.clips])

    def score(self, segmenter: Segmenter, clip: Clip, *, boxes: bool = False) -> SequenceScores:
        """Segment one clip and score it; see `figures`."""
        count = min(self.frames, len(clip.frames))
        truths = list(clip.masks[:count]) if clip.masks is not None else [None]
        first = truths[0]
        if first is None:
            raise InputError(f"sequence {clip.name} has no annotation of its first frame")
        frames = clip.frames[:count]
        if boxes:
            first = segmenter.mask_from_box(frames[0], mask_to_box(first))
        found = [segmenter.start(frames[0], first, from_boxes=boxes)]
        found += [segmenter.step(frame) for frame in frames[1:]]
        return score_sequence(clip.name, clip.frames.names[:count], found, truths)


@dataclass(frozen=True)
class UnsupervisedValidation:
    """The clips on which a training measures itself that finds objects by itself.

    Args:
        clips: annotated clips.
        frames: number of annotated frames per clip that are segmented, spread over it.
        single_object: take all objects as one, as DAVIS 2016 does. Default True.
    """

    clips: Sequence[Clip]
    frames: int
    single_object: bool = True

    def figures(self, segmenter: UnsupervisedSegmenter) -> dict[str, float]:
        """Segment some frames of the clips, and measure J and F.

        Args:
            segmenter: segmenter that is started anew on every clip, and sees these frames alone.

        Returns:
            As `Validation.figures`.

        Raises:
            InputError: a clip has no annotation.
        """
        return _figures([self.score(segmenter, clip) for clip in self.clips])

    def score(self, segmenter: UnsupervisedSegmenter, clip: Clip) -> SequenceScores:
        """Segment some frames of one clip and score them; see `figures`."""
        times = annotated(clip.masks)
        every = max(1, len(times) // self.frames)
        times = times[::every][: self.frames]
        frames = [clip.frames[time] for time in times]
        truths = [clip.masks[time] for time in times] if clip.masks is not None else []
        if not frames:
            raise InputError(f"sequence {clip.name} has no annotation")
        segmenter.start(frames)
        return score_unsupervised(
            clip.name,
            [clip.frames.names[time] for time in times],
            (segmenter.step(frame) for frame in frames),
            truths,
            single_object=self.single_object,
        )


def _figures(scores: Sequence[SequenceScores]) -> dict[str, float]:
    if not scores:
        return {}
    region = fmean(fmean(o.region) for s in scores for o in s.objects)
    contour = fmean(fmean(o.contour) for s in scores for o in s.objects)
    by_clip = {f"J/{s.name}": fmean(fmean(o.region) for o in s.objects) for s in scores}
    return {"held out/J": region, "held out/F": contour} | by_clip
