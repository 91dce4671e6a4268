"""Where the scores of a least-squares filter part object from background."""

from torch import Tensor

_ROUNDS = 5
_START = 0.6  # of the greatest score, where even that one is low


def calibrate(
    scores: Tensor, fraction: float = 0.65, lowest: float = 0.25, highest: float = 0.6
) -> Tensor:
    """Shift and scale the scores of one object so that 0 is the decision.

    Least squares with regularization shrinks: the farther a frame is from the memory, the lower the
    scores on the object. The two classes are found in the frame itself by the method of isodata,
    and the decision lies at a fixed fraction between their means.

    Args:
        scores: about 1 on the object and 0 elsewhere, shape (h, w).
        fraction: place of the decision between the mean of the background (0) and of the object
            (1); above one half, since classes weighted equally favour the smaller one at the
            boundary.
        lowest: least decision level, for frames without the object.
        highest: greatest decision level.

    Returns:
        Scores in units of the distance between the two means, shape (h, w).

    Source:
        Ridler and Calvard, Picture Thresholding Using an Iterative Selection Method, 1978.
    """
    level, distance = min(max(_START * float(scores.max()), lowest), 0.5), 1.0
    for _ in range(_ROUNDS):
        above = scores > level
        if not above.any() or above.all():
            break
        high, low = float(scores[above].mean()), float(scores[~above].mean())
        distance = high - low
        level = min(max(low + fraction * distance, lowest), highest)
    return (scores - level) / distance
