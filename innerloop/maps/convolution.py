"""The sum over pixels of (x * τ) · y, a trilinear form of features, filter and responses.

Its partial derivatives are the convolution, its transpose, and the gradient of the features; the
derivatives of each are the other two, so an unrolled solver keeps only the arguments.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from innerloop._primitive import Primitive, wanted
from innerloop.maps.weighting import SquareWeighted, square_weighted_gradients


def channels_last(features: Tensor) -> Tensor:
    """`features` (..., C, H, W), stored channels last."""
    channels, _, width = features.shape[-3:]
    if features.stride()[-3:] == (1, width * channels, channels):
        return features
    return features.movedim(-3, -1).contiguous().movedim(-1, -3)


class Collects(Protocol):
    """Collects the gradients of features from many convolutions."""

    def collects_for(self, features: Tensor) -> bool: ...

    def add(self, responses: Tensor, filters: Tensor, rows: Tensor | None = None) -> None: ...


class Convolve(Primitive):
    """x * τ for features (*batch, N, C, H, W) and filters (*batch, D, C, K, K)."""

    @staticmethod
    def forward(features: Tensor, filters: Tensor, collector: Collects | None = None) -> Tensor:
        return _each(_convolve, features, filters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.collector = _of(inputs[2], inputs[0])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, filters = ctx.saved_tensors
        needed = wanted(ctx)
        if needed[0] and needed[1] and _collects(ctx.collector) and features.shape[:-3] == (1,):
            # For a single frame, both gradients are products with the same patches.
            rows = patches(outer, filters.shape[-1])
            ctx.collector.add(outer, filters, rows)
            return None, _correlate_rows(features, rows, filters.shape[-1]), None
        return (
            _spread_or_collect(ctx.collector, outer, filters) if needed[0] else None,
            Correlate.apply(features, outer, filters.shape[-1], None) if needed[1] else None,
            None,
        )


class Correlate(Primitive):
    """The filters whose inner product with any τ is that of the responses with x * τ."""

    @staticmethod
    def forward(
        features: Tensor, responses: Tensor, kernel: int, collector: Collects | None = None
    ) -> Tensor:
        return _each(partial(_correlate, kernel=kernel), features, responses)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.collector = _of(inputs[3], inputs[0])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, responses = ctx.saved_tensors
        needed = wanted(ctx)
        return (
            _spread_or_collect(ctx.collector, responses, outer) if needed[0] else None,
            Convolve.apply(features, outer, None) if needed[1] else None,
            None,
            None,
        )


class CorrelateWeighed(Primitive):
    """`Correlate` of W² r, for which a backward pass keeps nothing but W and r."""

    @staticmethod
    def forward(
        features: Tensor,
        weights: Tensor,
        residual: Tensor,
        kernel: int,
        collector: Collects | None = None,
    ) -> Tensor:
        responses = SquareWeighted.forward(weights, residual)
        return _each(partial(_correlate, kernel=kernel), features, responses)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.collector = _of(inputs[4], inputs[0])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, weights, residual = ctx.saved_tensors
        needed = wanted(ctx)
        spread = None
        if needed[0]:
            responses = SquareWeighted.apply(weights, residual)
            spread = _spread_or_collect(ctx.collector, responses, outer)
        pulled: tuple[Tensor | None, Tensor | None] = (None, None)
        if needed[1] or needed[2]:
            convolved = Convolve.apply(features, outer, None)
            pulled = square_weighted_gradients(weights, residual, convolved, needed[1:3])
        return spread, *pulled, None, None


class Spread(Primitive):
    """The features whose inner product with any x is that of the responses with x * τ."""

    @staticmethod
    def forward(responses: Tensor, filters: Tensor) -> Tensor:
        return _each(_spread, responses, filters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        responses, filters = ctx.saved_tensors
        needed = wanted(ctx)
        return (
            Convolve.apply(outer, filters, None) if needed[0] else None,
            Correlate.apply(outer, responses, filters.shape[-1], None) if needed[1] else None,
        )


def _of(collector: Collects | None, features: Tensor) -> Collects | None:
    return collector if collector is not None and collector.collects_for(features) else None


def _spread_or_collect(
    collector: Collects | None, responses: Tensor, filters: Tensor
) -> Tensor | None:
    if not _collects(collector):
        return Spread.apply(responses, filters)  # type: ignore[no-any-return]
    collector.add(responses, filters)
    return None


def _collects(collector: Collects | None) -> TypeGuard[Collects]:
    # If it is differentiated again, its graph has to lead to each convolution, so nothing is
    # collected.
    return collector is not None and not torch.is_grad_enabled()


def _each(function: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
    """`function` of each problem of a batch; all arguments have four axes per problem."""
    if left.ndim == 4:
        return function(left, right)
    batch = left.shape[:-4]
    pairs = zip(left.flatten(0, -5), right.flatten(0, -5), strict=True)
    results = torch.stack([function(*pair) for pair in pairs])
    return results.reshape(*batch, *results.shape[1:])


def _convolve(features: Tensor, filters: Tensor) -> Tensor:
    if len(features) == 1:
        return _convolve_frame(features, filters)
    # Each row of the filters is convolved as a filter of its own, and the responses are added one
    # row apart: with more outputs, convolutions use the CPU better (1.5 times faster at D=16).
    outputs, channels, kernel, _ = filters.shape
    rows = filters.movedim(2, 0).reshape(kernel * outputs, channels, 1, kernel)
    responses = torch.split(F.conv2d(features, rows, padding=(0, kernel // 2)), outputs, 1)
    total: Tensor = responses[kernel // 2].contiguous()
    for offset in range(1, kernel // 2 + 1):
        above, below = responses[kernel // 2 - offset], responses[kernel // 2 + offset]
        total[:, :, offset:] += above[:, :, :-offset]
        total[:, :, :-offset] += below[:, :, offset:]
    return total


def _convolve_frame(features: Tensor, filters: Tensor) -> Tensor:
    # One product for all taps, for any memory layout of the features.
    outputs, channels, kernel, _ = filters.shape
    height, width = features.shape[-2:]
    responses = (taps(filters) @ features.reshape(channels, -1)).reshape(
        kernel, kernel, outputs, height, width
    )
    reach = kernel // 2
    padded = responses.new_zeros(outputs, height + 2 * reach, width + 2 * reach)
    for row in range(kernel):
        for column in range(kernel):
            place = padded[:, kernel - 1 - row :, kernel - 1 - column :]
            place[:, :height, :width] += responses[row, column]
    return padded[None, :, reach : reach + height, reach : reach + width].contiguous()


def _correlate(features: Tensor, responses: Tensor, kernel: int) -> Tensor:
    if len(features) == 1:
        return _correlate_rows(features, patches(responses, kernel), kernel)
    shape = (responses.shape[-3], features.shape[-3], kernel, kernel)
    filters: Tensor = conv2d_weight(features, shape, responses, padding=kernel // 2)  # type: ignore[no-untyped-call]
    return filters


def _correlate_rows(features: Tensor, rows: Tensor, kernel: int) -> Tensor:
    """`_correlate` for a single frame and the patches of its responses."""
    channels = features.shape[-3]
    found = rows.mT @ features.reshape(channels, -1).mT
    return found.reshape(kernel, kernel, -1, channels).permute(2, 3, 0, 1)


def _spread(responses: Tensor, filters: Tensor) -> Tensor:
    frames, _, height, width = responses.shape
    spread = patches(responses, filters.shape[-1]) @ taps(filters)
    return spread.reshape(frames, height, width, -1).movedim(-1, -3)


def taps(filters: Tensor) -> Tensor:
    """Filters (*batch, D, C, K, K) as rows, one per pixel and output, (*batch, K·K·D, C)."""
    return filters.movedim((-2, -1), (-4, -3)).reshape(*filters.shape[:-4], -1, filters.shape[-3])


def patches(responses: Tensor, kernel: int) -> Tensor:
    """Responses (*batch, N, D, H, W) as each tap meets them, (*batch, N·H·W, K·K·D).

    Their product with the taps is the gradient of the features.
    """
    *batch, frames, _, height, width = responses.shape
    reach = kernel // 2
    padded = F.pad(responses.movedim(-3, -1), (0, 0, reach, reach, reach, reach))
    shifted = [
        padded[..., row : row + height, column : column + width, :]
        for row in reversed(range(kernel))
        for column in reversed(range(kernel))
    ]
    return torch.cat(shifted, -1).reshape(*batch, frames * height * width, -1)
