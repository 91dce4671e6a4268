"""The sum over pixels of (x * τ) · y, a trilinear form of features, filter and responses.

Its partial derivatives are the convolution, its transpose, and what the features receive; the
derivatives of each are the other two, so that an unrolled solver keeps nothing but its arguments.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


def channels_last(features: Tensor) -> Tensor:
    """`features` (..., C, H, W) with the channels of a pixel side by side in memory."""
    channels, _, width = features.shape[-3:]
    if features.stride()[-3:] == (1, width * channels, channels):
        return features
    return features.movedim(-3, -1).contiguous().movedim(-1, -3)


class Convolve(torch.autograd.Function):
    """x * τ for features (*batch, N, C, H, W) and filters (*batch, D, C, K, K)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, filters: Tensor) -> Tensor:
        return _each(_convolve, features, filters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, filters = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            Spread.apply(outer, filters) if wanted[0] else None,
            Correlate.apply(features, outer, filters.shape[-1]) if wanted[1] else None,
        )


class Correlate(torch.autograd.Function):
    """The filters whose inner product with any τ is that of the responses with x * τ."""

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, responses: Tensor, kernel: int) -> Tensor:
        def correlate(features: Tensor, responses: Tensor) -> Tensor:
            shape = (responses.shape[-3], features.shape[-3], kernel, kernel)
            filters: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
                features, shape, responses, padding=kernel // 2
            )
            return filters

        return _each(correlate, features, responses)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, responses = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            Spread.apply(responses, outer) if wanted[0] else None,
            Convolve.apply(features, outer) if wanted[1] else None,
            None,
        )


class Spread(torch.autograd.Function):
    """The features whose inner product with any x is that of the responses with x * τ."""

    generate_vmap_rule = True

    @staticmethod
    def forward(responses: Tensor, filters: Tensor) -> Tensor:
        return _each(_spread, responses, filters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        responses, filters = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            Convolve.apply(outer, filters) if wanted[0] else None,
            Correlate.apply(outer, responses, filters.shape[-1]) if wanted[1] else None,
        )


def _each(function: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
    """`function` of each problem of a batch, all arguments having four axes a problem."""
    if left.ndim == 4:
        return function(left, right)
    batch = left.shape[:-4]
    pairs = zip(left.flatten(0, -5), right.flatten(0, -5), strict=True)
    results = torch.stack([function(*pair) for pair in pairs])
    return results.reshape(*batch, *results.shape[1:])


def _convolve(features: Tensor, filters: Tensor) -> Tensor:
    # Each row of the filters as a filter of its own, their responses then added one row apart: the
    # more outputs, the better the library's convolutions use the processor (1.5 times at D=16).
    outputs, channels, kernel, _ = filters.shape
    rows = filters.movedim(2, 0).reshape(kernel * outputs, channels, 1, kernel)
    responses = torch.split(F.conv2d(features, rows, padding=(0, kernel // 2)), outputs, 1)
    total: Tensor = responses[kernel // 2].contiguous()
    for offset in range(1, kernel // 2 + 1):
        above, below = responses[kernel // 2 - offset], responses[kernel // 2 + offset]
        total[:, :, offset:] += above[:, :, :-offset]
        total[:, :, :-offset] += below[:, :, offset:]
    return total


def _spread(responses: Tensor, filters: Tensor) -> Tensor:
    transposed = filters.flip(-2, -1).transpose(0, 1)
    kernel = filters.shape[-1]
    return F.conv2d(channels_last(responses), channels_last(transposed), padding=kernel // 2)
