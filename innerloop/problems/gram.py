"""The Gram matrix of the patches of frames, without making the patches."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_BLOCKS = 3


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
    *batch, frames, channels, height, width = features.shape
    pixels = features.movedim(-4, -3).reshape(*batch, channels, frames * height * width)
    gram: Tensor = _Gram.apply(pixels)
    if kernel > 1:
        sides = (frames, height, width)
        gram = _ShiftedSum.apply(gram.reshape(*batch, *sides, *sides), kernel)
    return gram.reshape(*batch, pixels.shape[-1], pixels.shape[-1])


class _Gram(torch.autograd.Function):
    """x'x for x of shape (*batch, C, P), of which but little more than a half is computed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(pixels: Tensor) -> Tensor:
        count = pixels.shape[-1]
        gram = pixels.new_empty(*pixels.shape[:-2], count, count)
        edges = [count * block // _BLOCKS for block in range(_BLOCKS + 1)]
        for start, end in pairwise(edges):
            gram[..., start:end, start:] = pixels[..., start:end].mT @ pixels[..., start:]
            gram[..., end:, start:end] = gram[..., start:end, end:].mT
        return gram

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        (pixels,) = ctx.saved_tensors
        return pixels @ (outer + outer.mT)


class _ShiftedSum(torch.autograd.Function):
    """Sum over all shifts of both pixels of a pair; its own transpose, for so is every shift back.

    The tensor has the axes (*batch, N, H, W, N, H, W).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(pairs: Tensor, kernel: int) -> Tensor:
        for axis in (-2, -1):
            total = pairs.clone()
            for offset in range(1, kernel // 2 + 1):
                if offset >= pairs.shape[axis]:
                    break
                first, last = (_shifted(pairs, axis, start, offset) for start in (0, offset))
                _shifted(total, axis, 0, offset).add_(last)
                _shifted(total, axis, offset, offset).add_(first)
            pairs = total
        return pairs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kernel = inputs[1]

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        return _ShiftedSum.apply(outer, ctx.kernel), None


def _shifted(pairs: Tensor, axis: int, start: int, offset: int) -> Tensor:
    """The pairs from `start` on along an axis of both pixels, as many as there are shifted ones."""
    count = pairs.shape[axis] - offset
    return pairs.narrow(axis, start, count).narrow(axis - 3, start, count)
