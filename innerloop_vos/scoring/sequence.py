"""J and F of every object of a sequence on every frame that counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from innerloop.errors import InputError
from innerloop_vos.scoring.boundary import contour_accuracy
from innerloop_vos.scoring.jaccard import region_similarity
from innerloop_vos.scoring.statistics import Summary, summarize


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object, frame by frame.

    Attributes:
        id: the object's id in the annotations.
        frames: names of the frames that count, in order.
        region: J on each of them.
        contour: F on each of them.
    """

    id: int
    frames: list[str]
    region: list[float]
    contour: list[float]

    @property
    def summary(self) -> Summary:
        """Mean, recall and decay of J and F."""
        return Summary(summarize(self.region), summarize(self.contour))


class NothingToScoreError(InputError):
    """Only frames that are not scored are annotated in a sequence."""


@dataclass(frozen=True)
class SequenceScores:
    """The scores of one sequence.

    Attributes:
        name: name of the sequence.
        length: number of its frames, those that do not count included.
        objects: the scores of its objects, in order of appearance and id; empty where it has no
            annotations to score against.
        seconds: time that the segmentation of all frames took; None where it was not measured.
        masks: digest of the files of the masks that were scored; None where it was not taken.
        memory: peak of the memory of the process that segmented it, up to its end, in bytes; None
            where it was not measured.
    """

    name: str
    length: int
    objects: list[ObjectScores]
    seconds: float | None = None
    masks: str | None = None
    memory: int | None = None


def score_sequence(
    name: str,
    frames: Sequence[str],
    predictions: Iterable[torch.Tensor | None],
    truths: Iterable[torch.Tensor | None],
    *,
    single_object: bool = False,
    last: bool = False,
    seconds: float | None = None,
) -> SequenceScores:
    """Measure J and F on the frames that count in the semi-supervised task.

    Left out are the last frame, as DAVIS does, and, for every object, the first frame that shows
    it, which the method was given. Where all objects are there from the start, as in DAVIS, these
    are the first and the last frame. Frames without an annotation are left out too.

    Args:
        name: name of the sequence.
        frames: name of every frame.
        predictions: the (H, W) uint8 mask of object ids predicted for every frame; None where there
            is none, which only a frame that does not count may have.
        truths: the annotated (H, W) uint8 mask of every frame, or None where there is none.
        single_object: take all nonzero ids as one object, as DAVIS 2016 does. Default False.
        last: whether the last frame counts too, as in YouTube-VOS. Default False.
        seconds: time that the segmentation took, to be kept with the scores. Default None.

    Returns:
        The scores of every annotated object.

    Raises:
        NothingToScoreError: no annotated frame is left that counts.
        InputError: a prediction is missing or differs in size from its annotation, or holds an
            object that the annotations have not shown up to then.
    """
    objects: dict[int, ObjectScores] = {}
    for frame, prediction, truth in zip(frames, predictions, truths, strict=True):
        if truth is None or (frame == frames[-1] and not last):
            continue
        try:
            _score_frame(objects, frame, prediction, truth, single_object)
        except InputError as error:
            raise InputError(f"sequence {name}, frame {frame}: {error}") from None
    scored = [scores for scores in objects.values() if scores.frames]
    if not scored:
        raise NothingToScoreError(
            f"sequence {name} has {len(frames)} frames and none that is scored; it needs an "
            "annotated one between the first that shows an object and the last"
        )
    return SequenceScores(name, len(frames), scored, seconds)


def _score_frame(
    objects: dict[int, ObjectScores],
    frame: str,
    prediction: torch.Tensor | None,
    truth: torch.Tensor,
    single_object: bool,
) -> None:
    """Add one frame to the scores of the objects seen before, then the objects new in it."""
    if prediction is None:
        if objects:
            raise InputError("there is no prediction")
        prediction = torch.zeros_like(truth)
    if single_object:
        prediction, truth = prediction.ne(0).byte(), truth.ne(0).byte()
    for scores in objects.values():
        predicted, true = prediction == scores.id, truth == scores.id
        scores.region.append(region_similarity(predicted, true))
        scores.contour.append(contour_accuracy(predicted, true))
        scores.frames.append(frame)
    for new in sorted(object_ids(truth) - objects.keys()):
        objects[new] = ObjectScores(new, [], [], [])
    if unknown := object_ids(prediction) - objects.keys():
        raise InputError(
            f"the prediction holds the objects {sorted(unknown)}, "
            f"but the annotations until then only {sorted(objects)}"
        )


def object_ids(mask: torch.Tensor) -> set[int]:
    """Return the ids in a mask (H, W), uint8, without that of the background, 0."""
    # Counting is ten times faster than torch.unique, which sorts.
    return set(mask.flatten().bincount().nonzero().flatten().tolist()) - {0}
