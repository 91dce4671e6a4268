"""Segmentation by a convolutional filter that is fitted to the mask and updated online."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop_vos.backbones import Backbone
from innerloop_vos.postprocessing.calibration import calibrate
from innerloop_vos.postprocessing.guided_filter import guided_upsample
from innerloop_vos.ridge.features import Maps, TargetFeatures
from innerloop_vos.ridge.object_filter import ObjectFilter, RidgeOptions
from innerloop_vos.segmenter import Observation, Segmenter, mask_of_box

_BOX_ROUNDS = 5
_BOX_REGULARIZATION = 3e-2


class _Encoded(NamedTuple):
    image: Tensor  # (3, H, W) in 0..1
    levels: Maps


@dataclass(frozen=True)
class _Found(Observation):
    features: list[Tensor] = field(kw_only=True)  # what each object's filter sees, (C, h, w)


class RidgeSegmenter(Segmenter):
    """LWL without learning what to learn: the label is the mask, the weights balance the classes.

    A filter on the first frame's principal channels of fixed backbone features is fitted to the
    first mask by an inner solver, applied to every later frame, and updated with its own
    predictions. Of the frames it has learned it keeps the sums that least squares need. Its
    calibrated scores are upsampled along the edges of the image and merged over objects.

    Args:
        backbone: feature extractor; moved to `device`.
        options: settings. Default: `RidgeOptions()`.
        device: where the work is done. Default: the CPU.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, sections 3.1, 3.3 and 3.5 (the first row of
        Table 1 is its nearest relative).
    """

    def __init__(
        self,
        backbone: Backbone,
        options: RidgeOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.options = options or RidgeOptions()
        self.features = TargetFeatures(backbone).eval().to(self.device)
        self._targets: list[ObjectFilter] = []

    def reset(self) -> None:
        self._targets = []

    def learned(self) -> list[dict[str, Any]]:
        return [target.state_dict() for target in self._targets]

    def relearn(self, state: list[dict[str, Any]]) -> None:
        self._targets = [ObjectFilter.from_state(self.options, each, self.device) for each in state]

    def encode(self, frame: Tensor) -> _Encoded:
        image = frame.float() / 255
        return _Encoded(image, self.features(image))

    def add(self, encoded: _Encoded, masks: Tensor) -> None:
        self._targets += [
            ObjectFilter(self.options, encoded.levels, mask.float()) for mask in masks
        ]

    def trust(self, encoded: _Encoded, masks: Tensor) -> None:
        for target, mask in zip(self._targets, masks.float(), strict=True):
            target.trust(target.channels(encoded.levels), mask)

    def keep(self, places: list[int]) -> None:
        self._targets = [self._targets[place] for place in places]

    def track(self, encoded: _Encoded) -> _Found:
        features = [target.channels(encoded.levels) for target in self._targets]
        pairs = zip(self._targets, features, strict=True)
        scores = torch.stack([target.score(seen) for target, seen in pairs])
        likely = self._likelihood(scores, encoded.image)
        return _Found(likely.clamp(1e-4, 1 - 1e-4).logit(), features=features)

    def update(self, observation: _Found, merged: Tensor) -> None:
        for target, seen, probability in zip(
            self._targets, observation.features, merged, strict=True
        ):
            if (probability > 0.5).sum() >= self.options.min_area:
                target.update(seen, probability)

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        inside = mask_of_box(frame, box).to(self.device)
        encoded = self.encode(frame.to(self.device))
        # All outside is background; inside, what one round finds to be the object is the label of
        # the next.
        mask = inside.float()
        # With more than single pixels to see, or less regularised, it would learn the box's shape.
        options = replace(self.options, kernel=1, regularization=_BOX_REGULARIZATION)
        for _ in range(_BOX_ROUNDS):
            target = ObjectFilter(options, encoded.levels, mask)
            scores = target.score(target.channels(encoded.levels))
            mask = inside * self._likelihood(scores[None], encoded.image)[0].clamp(0, 1)
        found = (mask > 0.5).byte()
        return (found if found.any() else inside).cpu()

    def _likelihood(self, scores: Tensor, image: Tensor) -> Tensor:
        """How likely each pixel shows each object, shape (O, H, W), about 0 to 1."""
        scores = calibrate(scores, apart=self.options.apart)
        # The guided filter smooths what is clearly inside or outside less than raw scores.
        return guided_upsample(torch.sigmoid(self.options.sharpness * scores), image)
