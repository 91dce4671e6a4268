"""The Gram matrix of the patches of frames, without making the patches."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_BLOCKS = 6
"""Parts that a matrix is worked on in."""


def patch_gram(features: Tensor, kernel: int) -> Tensor:
    """Inner products of all patches that a filter of side `kernel` sees.

    Two patches are K² pairs of pixels, each the next pair shifted on both sides: the Gram matrix is
    the sum of K² diagonally shifted copies of that of the pixels, or K copies of K.

    Args:
        features: shape (*batch, N, C, H, W).
        kernel: K, odd.

    Returns:
        Shape (*batch, N·H·W, N·H·W), symmetric.
    """
    by_channel = features.movedim(-4, -3)
    return _PatchGram.apply(by_channel, kernel)  # type: ignore[no-any-return]


class _PatchGram(torch.autograd.Function):
    """`patch_gram` of features (*batch, C, N, H, W)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, kernel: int) -> Tensor:
        *batch, channels = features.shape[:-3]
        sides = features.shape[-3:]
        pixels = features.reshape(math.prod(batch), channels, sides.numel())
        gram = pixels.new_empty(len(pixels), sides.numel(), sides.numel())
        # Of blocks of rows, but the upper half is computed, and mirrored.
        edges = [sides.numel() * block // _BLOCKS for block in range(_BLOCKS + 1)]
        for start, end in pairwise(edges):
            # In place: the products are too large to be copied for nothing.
            gram[:, start:end, start:].baddbmm_(
                pixels[..., start:end].mT, pixels[..., start:], beta=0
            )
            gram[:, end:, start:end] = gram[:, start:end, end:].mT
        gram = gram.reshape(*batch, sides.numel(), sides.numel())
        if kernel > 1:
            pairs = gram.reshape(*batch, *sides, *sides)
            gram = _shifted_sum(pairs, kernel).reshape(gram.shape)
        return gram

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.kernel = inputs[1]

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        (features,) = ctx.saved_tensors
        sides = features.shape[-3:]
        if ctx.kernel > 1:
            pairs = outer.reshape(*outer.shape[:-2], *sides, *sides)
            outer = _ShiftedSum.apply(pairs, ctx.kernel).reshape(outer.shape)
        return (features.flatten(-3) @ (outer + outer.mT)).reshape(features.shape), None


class _ShiftedSum(torch.autograd.Function):
    """The sum over all shifts of both pixels of a pair; its own transpose."""

    generate_vmap_rule = True

    @staticmethod
    def forward(pairs: Tensor, kernel: int) -> Tensor:
        return _shifted_sum(pairs.clone(), kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kernel = inputs[1]

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        return _ShiftedSum.apply(outer, ctx.kernel), None


def _shifted_sum(pairs: Tensor, kernel: int) -> Tensor:
    """Sum the shifts of both pixels of pairs (*batch, N, H, W, N, H, W) in place."""
    for axis, other in ((-2, -1), (-1, -2)):
        # Part by part, the copies stay in the nearest cache.
        for part in pairs.chunk(_BLOCKS, other - 3):
            copy = part.clone()
            for offset in range(1, min(kernel // 2 + 1, pairs.shape[axis])):
                first, last = (_shifted(copy, axis, start, offset) for start in (0, offset))
                _shifted(part, axis, 0, offset).add_(last)
                _shifted(part, axis, offset, offset).add_(first)
    return pairs


def _shifted(pairs: Tensor, axis: int, start: int, offset: int) -> Tensor:
    """The pairs from `start` on along an axis of both pixels, as many as there are shifted ones."""
    count = pairs.shape[axis] - offset
    return pairs.narrow(axis, start, count).narrow(axis - 3, start, count)
