"""Segmentation by a convolutional filter that is fitted to the mask and updated online."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.backbones import Backbone
from innerloop_vos.guided_filter import guided_upsample
from innerloop_vos.masks import box_to_mask
from innerloop_vos.memory import SampleMemory
from innerloop_vos.ridge.calibration import calibrate
from innerloop_vos.ridge.features import TargetFeatures
from innerloop_vos.segmenter import Segmenter

_BOX_ROUNDS = 3


@dataclass(frozen=True)
class RidgeOptions:
    """Settings of the ridge method.

    Args:
        solver: inner solver of the filter; iterative, or the exact `il.Ridge()`.
        init_steps: steps of an iterative solver on the first frame.
        update_steps: steps after every later frame.
        kernel: side of the filter in feature pixels, odd.
        regularization: λ of the filter.
        capacity: greatest number of frames in memory.
        learning_rate: share of a new frame in the loss.
        first_weight: least share of the frame that the user annotated.
        sharpness: slope of the logit in the calibrated score.
        min_area: pixels that an object must cover for its frame to be learned from.
    """

    solver: il.Solver = il.ConjugateGradient()  # noqa: RUF009 - solvers hold no state
    init_steps: int = 50
    update_steps: int = 3
    kernel: int = 3
    regularization: float = 1e-2
    capacity: int = 8
    learning_rate: float = 0.1
    first_weight: float = 0.5
    sharpness: float = 10.0
    min_area: int = 100


class _Encoded(NamedTuple):
    image: Tensor  # (3, H, W) in 0..1
    features: Tensor  # (C, h, w)


class _Target:
    """One object: its memory of frames and the filter fitted to them."""

    def __init__(self, options: RidgeOptions) -> None:
        self.options = options
        self.memory = SampleMemory(options.capacity, options.learning_rate, options.first_weight)
        self.filter: Tensor | None = None

    def learn(self, features: Tensor, mask: Tensor) -> None:
        """Add a frame (C, h, w) with its mask (h, w), soft, and fit the filter to the memory."""
        options = self.options
        self.memory.add(features, mask, _balanced_weights(mask))
        frames, labels, weights = self.memory.samples()
        share = self.memory.weights.to(features).sqrt()[:, None, None]
        steps = options.update_steps
        if self.filter is None:
            kernel = options.kernel
            self.filter = features.new_zeros(1, len(features), kernel, kernel)
            steps = options.init_steps
        problem = il.ConvLeastSquares(
            frames, labels[:, None], (share * weights)[:, None], options.regularization
        )
        self.filter = il.solve(
            problem, self.filter, options.solver, steps=steps, adjoint=il.Detach()
        ).value

    def score(self, features: Tensor) -> Tensor:
        """Apply the filter to a frame; shape (h, w), about 1 on the object and 0 elsewhere."""
        assert self.filter is not None
        return F.conv2d(features[None], self.filter, padding=self.options.kernel // 2)[0, 0]


class RidgeSegmenter(Segmenter):
    """LWL without learning what to learn: the label is the mask, the weights balance the classes.

    A filter on fixed backbone features is fitted to the first mask by an inner solver, applied to
    every later frame, and updated with its own predictions. Its calibrated scores are upsampled
    along the edges of the image and merged over objects.

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
        self._targets: list[_Target] = []

    def reset(self) -> None:
        self._targets = []

    def encode(self, frame: Tensor) -> _Encoded:
        image = frame.float() / 255
        return _Encoded(image, self.features(image[None])[0])

    def add(self, encoded: _Encoded, masks: Tensor) -> None:
        for mask in masks:
            target = _Target(self.options)
            target.learn(encoded.features, _shrink(mask.float(), encoded.features))
            self._targets.append(target)

    def track(self, encoded: _Encoded) -> Tensor:
        scores = torch.stack(
            [calibrate(target.score(encoded.features)) for target in self._targets]
        )
        likely = torch.sigmoid(self.options.sharpness * scores)
        likely = guided_upsample(likely, encoded.image)
        return likely.clamp(1e-4, 1 - 1e-4).logit()

    def update(self, encoded: _Encoded, probabilities: Tensor) -> None:
        for target, probability in zip(self._targets, probabilities, strict=True):
            if (probability > 0.5).sum() >= self.options.min_area:
                target.learn(encoded.features, _shrink(probability, encoded.features))

    @torch.no_grad()
    def mask_from_box(self, frame: Tensor, box: tuple[int, int, int, int]) -> Tensor:
        inside = box_to_mask(box, (frame.shape[1], frame.shape[2])).to(self.device)
        encoded = self.encode(frame.to(self.device))
        # Multiple-instance fitting: all outside is background; what the filter itself finds to be
        # the object inside becomes the label of the next round.
        mask = inside.float()
        for _ in range(_BOX_ROUNDS):
            target = _Target(self.options)
            target.learn(encoded.features, _shrink(mask, encoded.features))
            scores = calibrate(target.score(encoded.features))[None]
            likely = torch.sigmoid(self.options.sharpness * scores)
            mask = inside * guided_upsample(likely, encoded.image)[0].clamp(0, 1)
        found = (mask > 0.5).byte().cpu()
        return found if found.any() else inside.cpu()


def _shrink(mask: Tensor, features: Tensor) -> Tensor:
    """Share of each feature pixel that a mask (H, W) covers."""
    height, width = features.shape[-2:]
    return F.adaptive_avg_pool2d(mask[None], (height, width))[0]


def _balanced_weights(mask: Tensor) -> Tensor:
    """Weights with which object and background have equal sums of squares, for a soft mask."""
    background = 1 - mask
    share = mask / mask.sum().clamp(min=1) + background / background.sum().clamp(min=1)
    return (share / 2).sqrt()
