"""J and F of objects that a method found by itself, matched to those that are annotated."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.scoring.boundary import contour_accuracy
from innerloop_vos.scoring.jaccard import region_similarity
from innerloop_vos.scoring.sequence import (
    NothingToScoreError,
    ObjectScores,
    SequenceScores,
    object_ids,
)

MOST_PROPOSALS = 20
"""Objects that may be proposed for a sequence."""

_NOTHING = 0
"""The id of an object, or a proposal, that no frame shows."""


def score_unsupervised(
    name: str,
    frames: Sequence[str],
    predictions: Iterable[Tensor | None],
    truths: Iterable[Tensor | None],
    *,
    single_object: bool = False,
    seconds: float | None = None,
) -> SequenceScores:
    """Measure J and F on all annotated frames in the unsupervised task.

    Each annotated object is matched with one of the proposals, the ids in the predictions, over the
    whole sequence, so that the mean of J and F is greatest. One that is left without counts as
    predicted nowhere.

    Args:
        name: name of the sequence.
        frames: name of every frame.
        predictions: the (H, W) uint8 mask of proposals for every frame, at most 20 in all; None
            where there is none, which only a frame without an annotation may have.
        truths: the annotated (H, W) uint8 mask of every frame, or None where there is none.
        single_object: take all nonzero ids as one object, as DAVIS 2016 does. Default False.
        seconds: time that the segmentation took, to be kept with the scores. Default None.

    Returns:
        The scores of every annotated object.

    Raises:
        NothingToScoreError: no annotated frame shows an object.
        InputError: a prediction is missing or differs in size from its annotation, or there are
            more than 20 proposals.

    Source:
        Caelles et al., The 2019 DAVIS Challenge on VOS: Unsupervised Multi-Object Segmentation,
        arXiv:1905.00737, section 3.
    """
    pairs, scored = _Pairs(), []
    for frame, prediction, truth in zip(frames, predictions, truths, strict=True):
        if truth is None:
            continue
        try:
            if prediction is None:
                raise InputError("there is no prediction")
            if single_object:
                prediction, truth = prediction.ne(0).byte(), truth.ne(0).byte()
            pairs.add(prediction, truth)
        except InputError as error:
            raise InputError(f"sequence {name}, frame {frame}: {error}") from None
        scored.append(frame)
    if not pairs.objects[1:]:
        raise NothingToScoreError(f"sequence {name} has no annotated frame that shows an object")
    objects = []
    for object_, proposal in pairs.matched():
        region, contour = map(list, zip(*pairs.values[object_, proposal], strict=True))
        objects.append(ObjectScores(object_, scored, region, contour))
    return SequenceScores(name, len(frames), objects, seconds)


class _Pairs:
    """J and F of every pair of an object and a proposal, frame by frame.

    Object and proposal 0 are nowhere to be seen, as all others are before they first appear.
    """

    def __init__(self) -> None:
        self.objects, self.proposals = [_NOTHING], [_NOTHING]
        self.values: dict[tuple[int, int], list[tuple[float, float]]] = {(_NOTHING, _NOTHING): []}

    def add(self, prediction: Tensor, truth: Tensor) -> None:
        """Add the masks of a frame."""
        for new in sorted(object_ids(truth) - set(self.objects)):
            self.objects.append(new)
            for proposal in self.proposals:
                self.values[new, proposal] = list(self.values[_NOTHING, proposal])
        for new in sorted(object_ids(prediction) - set(self.proposals)):
            self.proposals.append(new)
            for object_ in self.objects:
                self.values[object_, new] = list(self.values[object_, _NOTHING])
        if len(self.proposals) - 1 > MOST_PROPOSALS:
            raise InputError(
                f"the predictions hold {len(self.proposals) - 1} objects until then, should be at "
                f"most {MOST_PROPOSALS}"
            )
        nothing = torch.zeros_like(truth, dtype=torch.bool)
        true = {id_: truth == id_ if id_ else nothing for id_ in self.objects}
        found = {
            id_: prediction == id_ if id_ else torch.zeros_like(prediction, dtype=torch.bool)
            for id_ in self.proposals
        }
        for (object_, proposal), values in self.values.items():
            pair = found[proposal], true[object_]
            values.append((region_similarity(*pair), contour_accuracy(*pair)))

    def matched(self) -> list[tuple[int, int]]:
        """Every object with its proposal, 0 for none."""
        objects, proposals = self.objects[1:], self.proposals[1:]
        # As many proposals as objects, at least, which may be nowhere to be seen.
        proposals += [_NOTHING] * (len(objects) - len(proposals))
        means = [[np.mean(self.values[o, p]) for p in proposals] for o in objects]
        rows, columns = linear_sum_assignment(means, maximize=True)
        return [(objects[row], proposals[at]) for row, at in zip(rows, columns, strict=True)]
