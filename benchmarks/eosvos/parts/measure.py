"""Accuracy and speed of e-OSVOS on annotated clips, which its benchmarks share."""

import time

import innerloop as il
from innerloop_vos.eosvos import EOSVOS, EOSVOSOptions, EOSVOSSegmenter
from innerloop_vos.training.validation import Validation

Figures = dict[str, float]


def plain_options(steps: int) -> EOSVOSOptions:
    """Settings of plain fine-tuning, without any further component."""
    return EOSVOSOptions(
        steps=steps,
        copies=1,
        flip=False,
        rotation=0.0,
        scale=(1.0, 1.0),
        online_interval=None,
        propagated=0,
    )


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
