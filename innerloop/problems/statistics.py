"""Sufficient statistics of least squares: a sum of constant size in place of samples."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.maps.products import multiply_transposed
from innerloop.maps.weighted_gram import symmetric, weighted_gram
from innerloop.maps.weighting import square_weighted, weighted_square
from innerloop.problems.checks import check_parameter
from innerloop.problems.conv import check_frames, squared_weights
from innerloop.problems.linear import check_samples
from innerloop.problems.sums import Sums, check_like, tensors


@dataclass(frozen=True, eq=False)
class Statistics(Sums):
    """What weighted least squares needs to know of its samples, if all outputs share the weights.

    For samples x (rows of features, or the patches that a filter sees), targets e and weights w,
    these are three sums over the samples. Those of several sets of samples are added; the minimum
    of `NormalEquations` is then that of all samples together, which need not be kept.

    Args:
        gram: Σ w² x xᵀ, shape (*batch, P, P), where P is C, or C·K² in the order of a flattened
            filter (C, K, K); symmetric; floating point.
        moment: Σ w² e x, shaped like the parameters: (*batch, D, C), or (*batch, D, C, K, K); same
            dtype and device.
        energy: Σ w² e², shape (*batch, D); same dtype and device.

    Raises:
        TypeError, ValueError: a shape, dtype or device does not fit; the message names the
            argument.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, eq. 3, as
        normal equations; Liang et al., A Fast and Accurate Online Sequential Learning Algorithm for
        Feedforward Networks, 2006 (sums over samples that arrive in chunks).
    """

    gram: Tensor
    moment: Tensor
    energy: Tensor

    def __post_init__(self) -> None:
        for name, tensor in self.state_dict().items():
            check_parameter(name, tensor)
        _check_shapes(self.gram, self.moment, self.energy)
        for name in ("moment", "energy"):
            check_like(name, getattr(self, name), "gram", self.gram)

    @classmethod
    def linear(
        cls, features: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> "Statistics":
        """The statistics of the samples of a `LinearLeastSquares`.

        Args:
            features: x, shape (*batch, N, C), N samples of C channels; floating point.
            targets: e, shape (*batch, N, D), same dtype and device.
            weights: w, shape (*batch, N) or (*batch, N, 1). Default: one.

        Raises:
            ValueError: a shape, dtype or device does not fit, or each output has weights of its
                own; the message names the argument.
        """
        if weights is not None and weights.ndim == features.ndim:
            _check_shared(weights, -1, "(*batch, N) or (*batch, N, 1)")
            weights = weights[..., 0]
        check_samples(features, targets, weights)
        if weights is not None:
            features, targets = weights[..., None] * features, weights[..., None] * targets
        with _in_full_precision(features):
            gram, moment = symmetric(features.mT @ features), targets.mT @ features
        return cls(gram, moment, targets.square().sum(-2))

    @classmethod
    def conv(
        cls, features: Tensor, targets: Tensor, weights: Tensor | None = None, *, kernel: int
    ) -> "Statistics":
        """The statistics of the frames of a `ConvLeastSquares`, made without unfolding them.

        Args:
            features: x, shape (*batch, N, C, H, W), N frames of C channels; floating point. Beyond
                their borders they are zero.
            targets: e, shape (*batch, N, D, H, W), same dtype and device.
            weights: w, shape (*batch, N) for one weight per frame, or (*batch, N, 1, H, W).
                Default: one.
            kernel: K, side of the filter; odd.

        Raises:
            TypeError, ValueError: a shape, dtype or device does not fit, or each output has weights
                of its own; the message names the argument.
        """
        _check_kernel(kernel)
        if weights is not None and weights.ndim == features.ndim:
            _check_shared(weights, -3, "(*batch, N) or (*batch, N, 1, H, W)")
        check_frames(features, targets, weights)
        if weights is not None and weights.ndim < features.ndim:
            weights = weights[..., None, None, None]
        weighed, squares = targets, targets.square()
        if weights is not None:
            weighed = square_weighted(weights, targets)
            squares = weighted_square(weights, targets)
        with _in_full_precision(features):
            gram = weighted_gram(features, squared_weights(features, weights), kernel)
            moment = multiply_transposed(features, weighed, kernel)
        return cls(gram, moment, squares.movedim(-3, -4).flatten(-3).sum(-1))

    @property
    def batch_shape(self) -> torch.Size:
        """Leading dimensions; each entry is an independent problem."""
        return self.gram.shape[:-2]

    def __add__(self, other: "Statistics") -> "Statistics":
        """The statistics of the samples of both."""
        self._check_fits("other", other)
        return Statistics(*map(torch.add, tensors(self), tensors(other)))

    def _times(self, factor: Tensor) -> "Statistics":
        return Statistics(*(trees.scale(factor, tensor) for tensor in tensors(self)))

    def select(self, channels: slice | Sequence[int] | Tensor) -> "Statistics":
        """The statistics of the same samples seen in some of their channels only.

        Args:
            channels: which of the C channels to keep: a slice, whole numbers, or an integer tensor
                of shape (count). Consecutive channels share their memory with these statistics.

        Raises:
            ValueError: there is no such channel, or none is left.
        """
        axis = len(self.batch_shape) + 1
        count = self.moment.shape[axis]
        chosen = _chosen(channels, count)
        entries = torch.arange(self.gram.shape[-1]).reshape(count, -1)[chosen].flatten()
        first, last = int(entries[0]), int(entries[-1])
        if chosen == list(range(chosen[0], chosen[-1] + 1)):
            gram = self.gram[..., first : last + 1, first : last + 1]
            return Statistics(gram, self.moment.narrow(axis, chosen[0], len(chosen)), self.energy)
        entries = entries.to(self.gram.device)
        moment = self.moment.index_select(axis, torch.tensor(chosen, device=self.gram.device))
        return Statistics(self.gram[..., entries[:, None], entries], moment, self.energy)

    def _check_same(self, name: str, other: "Statistics") -> None:
        if other.moment.shape != self.moment.shape:
            raise ValueError(
                f"{name}: of parameters {tuple(other.moment.shape)}, should be of parameters "
                f"{tuple(self.moment.shape)}"
            )


def _in_full_precision(features: Tensor) -> AbstractContextManager[Any]:
    """Without autocast: sums that grow for long must not be rounded more than their terms."""
    return torch.autocast(features.device.type, enabled=False)


def _chosen(channels: slice | Sequence[int] | Tensor, count: int) -> list[int]:
    """The channels as numbers from 0."""
    if isinstance(channels, slice):
        found = list(range(count))[channels]
    else:
        found = channels.tolist() if isinstance(channels, Tensor) else list(channels)
    whole = all(isinstance(at, int) and not isinstance(at, bool) for at in found)
    if not found or not whole or not all(-count <= at < count for at in found):
        raise ValueError(
            f"channels: {channels}, should be a slice or whole numbers from 0 to {count - 1}, at "
            "least one"
        )
    return [at % count for at in found]


def _check_shapes(gram: Tensor, moment: Tensor, energy: Tensor) -> None:
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2]:
        raise ValueError(f"gram: shape {tuple(gram.shape)}, should be (*batch, P, P)")
    batch, size = gram.shape[:-2], gram.shape[-1]
    filters = moment.shape[len(batch) + 1 :]
    square = len(filters) == 1 or (
        len(filters) == 3 and filters[1] == filters[2] and filters[1] % 2 == 1
    )
    if moment.shape[: len(batch)] != batch or not square or filters.numel() != size:
        raise ValueError(
            f"moment: shape {tuple(moment.shape)}, should be (*batch, D, C) or (*batch, D, C, K, K)"
            f" with an odd K, and C·K² = {size} and the batch {tuple(batch)} as in `gram`"
        )
    expected = moment.shape[: len(batch) + 1]
    if energy.shape != expected:
        raise ValueError(
            f"energy: shape {tuple(energy.shape)}, should be (*batch, D) = {tuple(expected)}"
        )


def _check_shared(weights: Tensor, axis: int, expected: str) -> None:
    if weights.shape[axis] != 1:
        raise ValueError(
            f"weights: shape {tuple(weights.shape)}, should be {expected}: all outputs share their "
            "weights; if each has its own, the statistics of each output are another problem of a "
            "batch"
        )


def _check_kernel(kernel: object) -> None:
    if isinstance(kernel, bool) or not isinstance(kernel, int):
        raise TypeError(f"kernel: {kernel!r}, should be an odd whole number")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel: {kernel}, should be an odd whole number")
