"""The Gram matrix of the patches of frames, without making the patches."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from innerloop._primitive import Primitive

_BLOCKS = 8
"""Number of parts in which a matrix is processed."""


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


class _PatchGram(Primitive):
    """`patch_gram` of features (*batch, C, N, H, W)."""

    @staticmethod
    def forward(features: Tensor, kernel: int) -> Tensor:
        *batch, channels = features.shape[:-3]
        frames, height, width = sides = features.shape[-3:]
        pixels = features.reshape(math.prod(batch), channels, sides.numel())
        gram = pixels.new_empty(len(pixels), sides.numel(), sides.numel())
        pairs = gram.reshape(len(pixels), frames * height, width, frames * height, width)
        # Only the upper half is computed, and then mirrored.
        edges = [frames * height * block // _BLOCKS * width for block in range(_BLOCKS + 1)]
        for start, end in pairwise(edges):
            first, last = start // width, end // width
            # In place: the products are too large to be copied.
            gram[:, start:end, start:].baddbmm_(
                pixels[..., start:end].mT, pixels[..., start:], beta=0
            )
            _add_shifts(pairs[:, first:last, :, first:], -3, -1, kernel)
        if frames == 1:
            _add_vertical_shifts_to_upper_half(pairs, kernel)
            _mirror(gram, range(0, sides.numel() + 1, width))
        else:
            # Between two frames, no half can do without the other.
            _mirror(gram, edges)
            _add_vertical_shifts(gram.reshape(len(gram), *sides, *sides), kernel)
        return gram.reshape(*batch, sides.numel(), sides.numel())

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


class _ShiftedSum(Primitive):
    """The sum over all shifts of both pixels of a pair; its own transpose."""

    @staticmethod
    def forward(pairs: Tensor, kernel: int) -> Tensor:
        pairs = pairs.clone()
        _add_shifts(pairs, -4, -1, kernel)
        _add_vertical_shifts(pairs, kernel)
        return pairs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kernel = inputs[1]

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        return _ShiftedSum.apply(outer, ctx.kernel), None


def _add_vertical_shifts(pairs: Tensor, kernel: int) -> None:
    """Add to pairs (*batch, N, H, W, N, H, W) their copies shifted along both heights."""
    # Part by part, so that the copies stay in the fastest cache.
    for part in pairs.chunk(_BLOCKS, -4):
        _add_shifts(part, -5, -2, kernel)


def _add_vertical_shifts_to_upper_half(pairs: Tensor, kernel: int) -> None:
    """The same for pairs (batch, H, W, H, W) whose first pixel is not in a lower row."""
    height = pairs.shape[1]
    reach = min(kernel // 2, height - 1)
    if reach == 0:
        return
    above: list[Tensor] = []  # the previous rows as they were, nearest first
    for row in range(height):
        here = pairs[:, row, :, row:]
        unchanged = here.clone()
        for copy in above:
            here += copy[:, :, : height - row]
        for below in range(row + 1, min(row + reach + 1, height)):
            here[:, :, : height - below] += pairs[:, below, :, below:]
        above = [unchanged, *above][:reach]


def _mirror(gram: Tensor, edges: Sequence[int]) -> None:
    """Copy the blocks above the diagonal of a matrix, cut at the edges, to below it."""
    for start, end in pairwise(edges):
        gram[:, end:, start:end] = gram[:, start:end, end:].mT


def _add_shifts(pairs: Tensor, axis: int, other: int, kernel: int) -> None:
    """Add to pairs, in place, their copies shifted along an axis of each of their pixels."""
    side = pairs.shape[axis]
    copy = pairs.clone() if kernel > 1 else pairs
    for offset in range(1, min(kernel // 2 + 1, side)):
        for here, there in ((0, offset), (offset, 0)):
            added = _narrowed(copy, axis, other, there, side - offset)
            _narrowed(pairs, axis, other, here, side - offset).add_(added)


def _narrowed(pairs: Tensor, axis: int, other: int, start: int, count: int) -> Tensor:
    return pairs.narrow(axis, start, count).narrow(other, start, count)
