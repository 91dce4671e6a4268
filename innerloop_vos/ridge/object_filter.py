"""The target model of one object: its memory of frames and the filter fitted to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.ridge.samples import SampleMemory


@dataclass(frozen=True)
class RidgeOptions:
    """Settings of the ridge method; those of the target model first.

    Args:
        solver: inner solver of the filter; iterative, or the exact `il.Ridge()`.
        init_steps: steps of an iterative solver on the first frame.
        update_steps: steps after every later frame.
        kernel: side of the filter in feature pixels, odd.
        regularization: λ of the filter.
        capacity: max number of frames in memory.
        learning_rate: share of a new frame in the loss.
        first_weight: min share of the frame that the user annotated.
        sharpness: slope of the logit in the calibrated score.
        apart: min distance between the mean scores of object and background; in a blank frame they
            are closer, and nothing is marked.
        min_area: pixels that an object must cover for its frame to be learned from.
    """

    solver: il.Solver = il.ConjugateGradient()  # noqa: RUF009 - solvers hold no state
    init_steps: int = 50
    update_steps: int = 3
    kernel: int = 3
    regularization: float = 1e-2
    capacity: int = 8
    learning_rate: float = 0.1
    first_weight: float = 0.75
    sharpness: float = 6.0
    apart: float = 0.5
    min_area: int = 100


def mask_problem(
    features: Tensor, masks: Tensor, regularization: float, shares: Tensor | None = None
) -> il.ConvLeastSquares:
    """Least squares whose label is the mask itself, with the classes weighted equally.

    Args:
        features: features of the frames, shape (N, C, h, w).
        masks: share of the object in each feature pixel, 0 to 1, shape (N, h, w); or in each pixel
            of the frames, shape (N, H, W).
        regularization: λ of the filter.
        shares: share of each frame in the loss, shape (N,). Default: one.

    Returns:
        The problem of a filter of shape (1, C, K, K).
    """
    masks = shrink(masks, features)
    background = 1 - masks
    total = (-2, -1)
    balance = masks / masks.sum(total, keepdim=True).clamp(min=1) + background / background.sum(
        total, keepdim=True
    ).clamp(min=1)
    weights = (balance / 2).sqrt()  # W is inside the square
    if shares is not None:
        weights = weights * shares.sqrt()[:, None, None]
    return il.ConvLeastSquares(features, masks[:, None], weights[:, None], regularization)


def shrink(masks: Tensor, features: Tensor) -> Tensor:
    """Share of each feature pixel that masks (..., H, W) cover."""
    height, width = features.shape[-2:]
    return F.adaptive_avg_pool2d(masks, (height, width))


class ObjectFilter:
    """One object: its memory of frames and the filter fitted to them.

    Args:
        options: settings.
        features: features of the first frame, shape (C, h, w).
        mask: mask of the object in it, shape (H, W), 0 to 1.
    """

    def __init__(self, options: RidgeOptions, features: Tensor, mask: Tensor) -> None:
        self._begin(options)
        self.filter = features.new_zeros(1, len(features), options.kernel, options.kernel)
        self._learn(features, mask, options.init_steps)

    @classmethod
    def from_state(
        cls, options: RidgeOptions, state: Mapping[str, Any], device: torch.device
    ) -> "ObjectFilter":
        """Make the target that a `state_dict` is of, on a device."""
        target = cls.__new__(cls)
        target._begin(options)
        target.filter = state["filter"].to(device)
        target.memory.load_state_dict(state["memory"], device)
        return target

    def state_dict(self) -> dict[str, Any]:
        """Return the filter and the memory."""
        return {"filter": self.filter, "memory": self.memory.state_dict()}

    def update(self, features: Tensor, mask: Tensor) -> None:
        """Add a frame (C, h, w) with its soft mask (H, W), and continue fitting the filter."""
        self._learn(features, mask, self.options.update_steps)

    def score(self, features: Tensor) -> Tensor:
        """Apply the filter to a frame (C, h, w): about 1 on the object and 0 elsewhere."""
        return F.conv2d(features[None], self.filter, padding=self.options.kernel // 2)[0, 0]

    def _begin(self, options: RidgeOptions) -> None:
        self.options = options
        self.memory = SampleMemory(options.capacity, options.learning_rate, options.first_weight)

    def _learn(self, features: Tensor, mask: Tensor, steps: int) -> None:
        self.memory.add(features, shrink(mask[None], features)[0])
        frames, masks = self.memory.samples()
        shares = self.memory.weights.to(features)
        problem = mask_problem(frames, masks, self.options.regularization, shares)
        self.filter = il.solve(
            problem, self.filter, self.options.solver, steps=steps, adjoint=il.Detach()
        ).value
