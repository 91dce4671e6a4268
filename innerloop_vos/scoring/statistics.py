"""The three statistics that DAVIS draws from per-frame values."""

import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from innerloop.errors import InputError

RECALL_THRESHOLD = 0.5
DECAY_BINS = 4


@dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay of one measure.

    Attributes:
        mean: average over the frames.
        recall: fraction of the frames whose value is above 0.5.
        decay: mean of the first quarter of the frames minus mean of the last; negative where the
            result gets better over time.
    """

    mean: float
    recall: float
    decay: float


def summarize(values: Sequence[float]) -> Statistics:
    """Summarize the values that a measure takes on the frames of one object.

    Args:
        values: one value per frame, in order of time. As in the benchmark's own code, NaN is left
            out of mean and decay and counts as a miss in recall.

    Returns:
        Mean, recall and decay.

    Raises:
        InputError: there is no value.

    Source:
        Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object
        Segmentation, CVPR 2016, section 4.2; the bins of the decay as in the benchmark's code.
    """
    if len(values) == 0:
        raise InputError("values should hold at least one frame")
    series = np.asarray(values, dtype=np.float64)
    # Neighbouring bins share a frame. The small number rounds halves up, as Matlab does.
    edges = np.round(np.linspace(1, len(series), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = series[: edges[1] + 1], series[edges[-2] :]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return Statistics(
            mean=float(np.nanmean(series)),
            recall=float(np.mean(series > RECALL_THRESHOLD)),
            decay=float(np.nanmean(first) - np.nanmean(last)),
        )


@dataclass(frozen=True)
class Summary:
    """The statistics of both measures, of one object or averaged over several.

    Attributes:
        region: mean, recall and decay of J.
        contour: mean, recall and decay of F.
    """

    region: Statistics
    contour: Statistics

    @property
    def overall(self) -> float:
        """J&F: the mean of the two means."""
        return (self.region.mean + self.contour.mean) / 2


def average(summaries: Sequence[Summary]) -> Summary:
    """Average over objects; each counts the same, however long its sequence is.

    Args:
        summaries: one summary per object, at least one.

    Returns:
        Their mean, number by number.

    Raises:
        InputError: there is no summary.
    """
    if not summaries:
        raise InputError("summaries should hold at least one object")
    return Summary(
        _average([summary.region for summary in summaries]),
        _average([summary.contour for summary in summaries]),
    )


def _average(statistics: Sequence[Statistics]) -> Statistics:
    mean, recall, decay = np.mean([astuple(each) for each in statistics], axis=0).tolist()
    return Statistics(mean, recall, decay)
