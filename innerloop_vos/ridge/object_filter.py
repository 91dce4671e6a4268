"""The target model of one object: sums over the frames it has learned, and the filter they give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.ridge.features import Maps, PrincipalChannels

_STRIDE = 8
"""Image pixels per feature pixel."""


@dataclass(frozen=True)
class RidgeOptions:
    """Settings of the ridge method; those of the target model first.

    Args:
        solver: inner solver of the filter; the exact `il.Ridge()`, or an iterative one.
        steps: steps of an iterative solver on every frame that is learned.
        channels: number of the first frame's principal channels that the filter sees, beside a
            constant one.
        kernel: side of the filter in feature pixels, odd.
        regularization: λ of the filter.
        learning_rate: share of a new frame in the moving average of all frames.
        first_weight: share that a frame which the user annotated has beside that average, above 0
            and at most 1.
        sharpness: slope of the logit in the calibrated score.
        apart: min distance between the mean scores of object and background; in a blank frame they
            are closer, and nothing is marked.
        min_area: pixels that an object must cover for its frame to be learned from.
    """

    solver: il.Solver = il.Ridge()  # noqa: RUF009 - solvers hold no state
    steps: int = 50
    channels: int = 64
    kernel: int = 3
    regularization: float = 1e-3
    learning_rate: float = 0.1
    first_weight: float = 0.9
    sharpness: float = 6.0
    apart: float = 0.5
    min_area: int = 100


def balance(mask: Tensor) -> Tensor:
    """Weights of pixels with which object and background count the same.

    Args:
        mask: share of the object in each pixel, 0 to 1, shape (h, w).

    Returns:
        Shape (h, w), summing to one where both are there.
    """
    background = 1 - mask
    return (mask / mask.sum().clamp(min=1) + background / background.sum().clamp(min=1)) / 2


class ObjectFilter:
    """One object: sums over the frames it has learned, and the filter they give.

    The label is the mask itself, with the classes weighted equally. The sums are those of the
    frames whose masks were given, and a moving average over these and all later frames.

    Args:
        options: settings.
        levels: features of the first frame.
        mask: mask of the object in it, shape (H, W), 0 to 1.

    Attributes:
        channels: the projection of a frame's features to what the filter sees, (C, h, w).
    """

    def __init__(self, options: RidgeOptions, levels: Maps, mask: Tensor) -> None:
        self.options = options
        share = shrink(mask, [-(-side // _STRIDE) for side in mask.shape])
        self.channels = PrincipalChannels.of(levels, balance(share), options.channels)
        self.given = self.average = self._statistics(self.channels(levels), mask)
        self._count = 1  # of the frames that `given` is the mean of
        self.filter = torch.zeros_like(self.given.moment)
        self._fit()

    @classmethod
    def from_state(
        cls, options: RidgeOptions, state: Mapping[str, Any], device: torch.device
    ) -> "ObjectFilter":
        """Make the target that a `state_dict` is of, on a device."""
        target = cls.__new__(cls)
        target.options = options
        target.channels = PrincipalChannels.from_state(state["channels"], device)
        target.given, target.average = (
            il.Statistics(**{name: value.to(device) for name, value in state[part].items()})
            for part in ("first", "average")
        )
        target._count = state.get("count", 1)  # states of before there were corrections
        target.filter = state["filter"].to(device)
        return target

    def state_dict(self) -> dict[str, Any]:
        """Return the projection, the sums and the filter."""
        return {
            "channels": self.channels.state_dict(),
            "first": self.given.state_dict(),
            "average": self.average.state_dict(),
            "count": self._count,
            "filter": self.filter,
        }

    def update(self, features: Tensor, mask: Tensor) -> None:
        """Learn the `channels` (C, h, w) of a frame with its soft mask (H, W)."""
        new = self._statistics(features, mask)
        self.average = self.average.updated(new, self.options.learning_rate)
        self._fit()

    def trust(self, features: Tensor, mask: Tensor) -> None:
        """Learn the `channels` (C, h, w) of a frame with its true mask (H, W), as the first one.

        The average starts again from the frames whose masks were given.
        """
        self._count += 1
        new = self._statistics(features, mask)
        self.given = self.average = self.given.updated(new, 1 / self._count)
        self._fit()

    def score(self, features: Tensor) -> Tensor:
        """Apply the filter to the `channels` (C, h, w): about 1 on the object, 0 elsewhere."""
        return F.conv2d(features[None], self.filter, padding=self.options.kernel // 2)[0, 0]

    def _statistics(self, features: Tensor, mask: Tensor) -> il.Statistics:
        mask = shrink(mask, features.shape[1:])
        weights = balance(mask).sqrt()  # W is inside the square
        return il.Statistics.conv(
            features[None], mask[None, None], weights[None, None], kernel=self.options.kernel
        )

    def _fit(self) -> None:
        # Each frame whose mask was given weighs as much beside the average as the first one.
        given, others = self._count * self.options.first_weight, 1 - self.options.first_weight
        mixed = self.average.updated(self.given, given / (given + others))
        problem = il.NormalEquations(mixed, self.options.regularization)
        solver, steps = self.options.solver, self.options.steps
        self.filter = il.solve(problem, self.filter, solver, steps=steps, adjoint=il.Detach()).value


def shrink(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Share of each of h x w pixels that a mask (H, W) covers."""
    return F.adaptive_avg_pool2d(mask[None], (size[0], size[1]))[0]
