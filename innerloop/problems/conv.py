"""Least squares for the filter of a convolution."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop._autodiff import transforming
from innerloop.maps.collect import Collector
from innerloop.maps.convolution import Convolve, Correlate, CorrelateWeighed, channels_last
from innerloop.maps.gram import patch_gram
from innerloop.maps.products import multiply, multiply_transposed
from innerloop.maps.weighted_gram import weighted_gram
from innerloop.problems.checks import (
    check_alike,
    check_not_empty,
    check_parameter,
    check_regularization,
)
from innerloop.problems.linear import RidgeProblem, spread

_MANY_OUTPUTS = 8


class ConvLeastSquares(RidgeProblem):
    """Weighted, regularised least squares for the filter of a convolution over several frames.

    The objective, for a filter τ, features x, targets E and weights W, is

        ½ Σ_t |W_t · (x_t * τ − E_t)|² + ½ λ |τ|²

    where * is cross-correlation with stride 1 and zero padding K // 2. The weights are inside the
    norm, so they enter the objective squared. Leading batch dimensions are independent problems.

    Args:
        features: x, shape (*batch, N, C, H, W), N frames of C channels; floating point.
        targets: E, shape (*batch, N, D, H, W), same dtype and device as `features`.
        weights: W, shape (*batch, N) for one weight per frame, or (*batch, N, D, H, W), whose D may
            be 1. Default: one.
        regularization: λ, not negative; a float, or a tensor of shape () or (*batch). Default 0.

    Raises:
        ValueError: a shape, dtype, device or value does not fit; the message names the argument.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, eq. 3.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        regularization: float | Tensor = 0.0,
    ) -> None:
        check_frames(features, targets, weights)
        self.batch_shape = features.shape[:-4]
        if weights is not None and weights.ndim == features.ndim - 3:
            weights = weights[..., None, None, None]
        decay = check_regularization(regularization, self.batch_shape, features)
        super().__init__(targets, weights, decay)
        # On a CPU, convolutions are fast with many outputs and channels last; for one frame, a
        # product is as fast in either order. With few outputs, and on other devices, where
        # convolutions may round, all is computed as products.
        self._convolves = (
            targets.shape[-3] >= _MANY_OUTPUTS
            and features.device.type == "cpu"
            and 0 not in self.batch_shape
        )
        ordered = self._convolves and features.shape[-4] > 1
        self.features = channels_last(features) if ordered else features
        self._collector: Collector | None = None
        if self._convolves and _differentiated(self.features):
            self._collector = Collector()
            self.features = self._collector.watch(self.features)

    def check(self, params: Tensor) -> None:
        check_parameter("init", params)
        *batch, _, channels, _, _ = self.features.shape
        outputs = self.targets.shape[-3]
        expected = f"(*batch, D, C, K, K) = ({[*batch, outputs, channels]}, K, K) with an odd K"
        fits = (
            list(params.shape[:-2]) == [*batch, outputs, channels]
            and params.shape[-1] == params.shape[-2]
            and params.shape[-1] % 2 == 1
        )
        if not fits:
            raise ValueError(f"init: shape {tuple(params.shape)}, should be {expected}")
        check_alike(self.features, init=params)

    def predict(self, params: Tensor) -> Tensor:
        if self._convolves:
            return Convolve.apply(self.features, params, self._collecting)  # type: ignore[no-any-return]
        return multiply(self.features, params)

    def transpose(self, residual: Tensor, like: Tensor) -> Tensor:
        kernel = like.shape[-1]
        if self._convolves:
            return Correlate.apply(self.features, residual, kernel, self._collecting)  # type: ignore[no-any-return]
        return multiply_transposed(self.features, residual, kernel)

    def transpose_weighed(self, residual: Tensor, like: Tensor) -> Tensor:
        if self._convolves and self.weights is not None:
            return CorrelateWeighed.apply(  # type: ignore[no-any-return]
                self.features, self.weights, residual, like.shape[-1], self._collecting
            )
        return super().transpose_weighed(residual, like)

    def samples(self, params: Tensor, prediction: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        frames, _, height, width = self.features.shape[-4:]
        half = params.shape[-1] // 2
        found = []
        for t, y, x in itertools.product(*map(spread, (frames, height, width))):
            # The part of the filter that lies on the frame.
            rows, columns = (
                slice(max(y - half, 0), y + half + 1),
                slice(max(x - half, 0), x + half + 1),
            )
            patch = self.features[..., t, :, rows, columns]
            top, left = max(half - y, 0), max(half - x, 0)
            seen = params[..., top : top + patch.shape[-2], left : left + patch.shape[-1]]
            found.append(
                (patch.flatten(-3).unsqueeze(-2), seen.flatten(-3), prediction[..., t, :, y, x])
            )
        return found

    @property
    def _collecting(self) -> Collector | None:
        """The collector of the features' gradient, if they will receive one."""
        return self._collector if _differentiated(self.features) else None

    def dual_gram(self, like: Tensor, steps: int) -> Tensor | None:
        *_, frames, channels, height, width = self.features.shape
        outputs, kernel = like.shape[-4], like.shape[-1]
        # Multiplications per pixel: half the Gram matrix, and a product with it per step, against
        # two convolutions per step. The former are bound by memory: they pay off at half as many.
        pixels = frames * height * width
        if pixels * (channels + 2 * steps * outputs) >= 2 * steps * outputs * channels * kernel**2:
            return None
        return patch_gram(self.features, kernel)

    def rows(self, responses: Tensor) -> Tensor:
        """Responses (*batch, N, D, H, W), or weights, as rows (*batch, N·H·W, D)."""
        sides = self.features.shape[-2:]
        responses = responses.expand(*responses.shape[:-2], *sides)
        return responses.movedim(-3, -1).flatten(-4, -2).contiguous()

    def responses(self, rows: Tensor) -> Tensor:
        """Undo `rows`."""
        frames, _, *sides = self.features.shape[-4:]
        return rows.reshape(*rows.shape[:-2], frames, *sides, rows.shape[-1]).movedim(-1, -3)

    def normal_equations(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.weights is not None and self.weights.shape[-3] > 1:
            return super().normal_equations(like)
        squares = squared_weights(self.features, self.weights)
        gram = weighted_gram(self.features, squares, like.shape[-1])
        right = self.transpose_weighed(self.targets, like)
        return gram.unsqueeze(-3), right.flatten(-3).unsqueeze(-1)

    def design(self, like: Tensor) -> tuple[Tensor, Tensor]:
        *batch, frames, channels, height, width = self.features.shape
        kernel, pixels = like.shape[-1], frames * height * width
        # Patches as rows of all frames: (*batch, 1, N·H·W, C·K²).
        patches = F.unfold(
            self.features.reshape(math.prod(batch) * frames, channels, height, width),
            kernel,
            padding=kernel // 2,
        )
        columns = channels * kernel**2
        patches = patches.reshape(*batch, frames, columns, height * width).mT
        patches = patches.reshape(*batch, 1, pixels, columns)
        outputs = self.targets.shape[-3]
        targets = self.targets.movedim(-3, -4).reshape(*batch, outputs, pixels, 1)
        if self.weights is not None:
            distinct = self.weights.shape[-3]
            weights = self.weights.expand(*batch, frames, distinct, height, width)
            weights = weights.movedim(-3, -4).reshape(*batch, distinct, pixels, 1)
            patches, targets = weights * patches, weights * targets
        return patches, targets


def _differentiated(features: Tensor) -> bool:
    """Whether eager code will want the gradient of features."""
    return features.requires_grad and torch.is_grad_enabled() and not transforming()


def squared_weights(features: Tensor, weights: Tensor | None) -> Tensor:
    """W² of every pixel, shape (*batch, N, H, W), for weights that all outputs share.

    Args:
        features: shape (*batch, N, C, H, W).
        weights: W, shape (*batch, N, 1, H or 1, W or 1). None: one.
    """
    *frames, _, height, width = features.shape
    if weights is None:
        return features.new_ones(()).expand(*frames, height, width)
    return weights.square().squeeze(-3).expand(*frames, height, width)


def check_frames(features: Tensor, targets: Tensor, weights: Tensor | None) -> None:
    """Raise ValueError unless the data of a filter fit together."""
    if features.ndim < 4:
        raise ValueError(f"features: shape {tuple(features.shape)}, should be (*batch, N, C, H, W)")
    *batch, frames, _, height, width = features.shape
    if targets.ndim != features.ndim or [
        *targets.shape[:-3],
        *targets.shape[-2:],
    ] != [*batch, frames, height, width]:
        raise ValueError(
            f"targets: shape {tuple(targets.shape)}, should be (*batch, N, D, H, W) with "
            f"everything but D as in the features, {tuple(features.shape)}"
        )
    if weights is not None:
        per_frame = [*batch, frames]
        per_pixel = [[*per_frame, d, height, width] for d in (1, targets.shape[-3])]
        if list(weights.shape) not in [per_frame, *per_pixel]:
            raise ValueError(
                f"weights: shape {tuple(weights.shape)}, should be (*batch, N) = "
                f"{tuple(per_frame)} or (*batch, N, D, H, W) = {tuple(per_pixel[1])}"
            )
    check_alike(features, targets=targets, weights=weights)
    check_not_empty(features.ndim - 4, features=features, targets=targets)
