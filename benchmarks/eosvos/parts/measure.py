"""Accuracy and speed of e-OSVOS on annotated clips, which its benchmarks share."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import innerloop as il
from innerloop_vos.eosvos import EOSVOS, EOSVOSOptions, EOSVOSSegmenter
from innerloop_vos.training.validation import Validation

Figures = dict[str, float]
Summary = dict[str, Any]
"""Values seed by seed, their mean and their standard deviation."""


def measure(
    network: EOSVOS, rates: il.LearningRates, options: EOSVOSOptions, validation: Validation
) -> Figures:
    """Segment the clips.

    Returns:
        Mean J, F and J&F over all objects in percent, and frames per second of CPU time,
        which other work on the machine does not slow; fine-tuning included.
    """
    start = time.process_time()
    figures = validation.figures(EOSVOSSegmenter(network, rates, options))
    seconds = time.process_time() - start
    frames = sum(min(validation.frames, len(clip.frames)) for clip in validation.clips)
    region, contour = 100 * figures["held out/J"], 100 * figures["held out/F"]
    return {
        "J": region,
        "F": contour,
        "J&F": (region + contour) / 2,
        "frames/s": frames / seconds,
    }


def summary(values: Sequence[float]) -> Summary:
    """Summarise the values of several seeds; the deviation of a single one counts as 0."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"seeds": list(values), "mean": statistics.fmean(values), "spread": spread}


def over_seeds(measured: Sequence[Figures]) -> dict[str, Summary]:
    """Summarise each of the figures that were measured for several seeds."""
    return {name: summary([figures[name] for figures in measured]) for name in measured[0]}
