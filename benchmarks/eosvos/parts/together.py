"""Accuracy of e-OSVOS with several options whose fine-tuning on first frames is shared.

Ten fine-tuning steps are the first ones of a hundred, and what comes after the first frame does not
change them.
"""

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

import innerloop as il
from benchmarks.eosvos.parts.measure import Figures
from innerloop_vos.eosvos import EOSVOS, EOSVOSOptions, EOSVOSSegmenter
from innerloop_vos.eosvos.finetuning import fine_tune
from innerloop_vos.eosvos.network import Encoded
from innerloop_vos.scoring import SequenceScores
from innerloop_vos.training.validation import Validation

Tuned = dict[int, tuple[int, il.Adapted | None, Tensor]]
"""By object: steps so far, the network after them (None: diverged), state of the generator."""


def measure_together(
    network: EOSVOS,
    rates: il.LearningRates,
    variants: Mapping[str, EOSVOSOptions],
    validation: Validation,
) -> dict[str, Figures]:
    """Segment the clips with each of several options.

    Args:
        network, rates: as of a segmenter.
        variants: options by name, which have augmentation and seed in common.
        validation: the clips.

    Returns:
        Mean J, F and J&F over all objects in percent by name, the same as one by one.
    """
    scores: dict[str, list[SequenceScores]] = {name: [] for name in variants}
    for clip in validation.clips:
        tuned: Tuned = {}
        for name in sorted(variants, key=lambda name: variants[name].steps):
            segmenter = _Continuing(network, rates, variants[name], tuned)
            scores[name].append(validation.score(segmenter, clip))
    return {name: _figures(found) for name, found in scores.items()}


class _Continuing(EOSVOSSegmenter):
    """Continues the fine-tuning that another segmenter with fewer steps began on the same frame."""

    def __init__(
        self, network: EOSVOS, rates: il.LearningRates, options: EOSVOSOptions, tuned: Tuned
    ) -> None:
        super().__init__(network, rates, replace(options, steps=0))
        self.steps, self.tuned = options.steps, tuned

    def add(self, encoded: Encoded, masks: Tensor) -> None:
        before = len(self._targets)
        super().add(encoded, masks)
        for index, target in enumerate(self._targets[before:], before):
            with target._random():
                start = 0, target._tuned, torch.get_rng_state()
                done, model, generator = self.tuned.get(index, start)
                torch.set_rng_state(generator)
                if model is not None:
                    try:
                        model = fine_tune(
                            model,
                            self.rates,
                            target._copies,
                            self.steps - done,
                            adjoint=il.Detach(),
                        )
                    except il.SolveError:
                        model = None
                self.tuned[index] = self.steps, model, torch.get_rng_state()
            if model is not None:
                target._tuned = target._adapted = model


def _figures(scores: list[SequenceScores]) -> Figures:
    objects = [each for clip in scores for each in clip.objects]
    region, contour = (
        100 * fmean(fmean(values) for values in measured)
        for measured in ([o.region for o in objects], [o.contour for o in objects])
    )
    return {"J": region, "F": contour, "J&F": (region + contour) / 2}
