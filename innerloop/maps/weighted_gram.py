"""The weighted Gram matrix of the entries of patches, without making the patches."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop._primitive import Primitive

_PIXELS = 2048
"""Number of pixels that are processed at a time, few enough for the cache."""


def weighted_gram(features: Tensor, squares: Tensor, kernel: int) -> Tensor:
    """Σ v u uᵀ over all pixels, for the patch u that a filter of side `kernel` sees there.

    With zeros between its rows, a frame is one long row of pixels, and so are all frames: each
    entry of the patches is a slice of it. Every pair of entries is one matrix product; it stands
    for two, as the result is symmetric.

    Args:
        features: shape (*batch, N, C, H, W).
        squares: v, shape (*batch, N, H, W).
        kernel: K, odd.

    Returns:
        Shape (*batch, C·K², C·K²), rows and columns in the order of a flattened filter (C, K, K);
        exactly symmetric.
    """
    return _WeightedGram.apply(features, squares, kernel)  # type: ignore[no-any-return]


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric matrix with the upper half of this one.

    The two halves of a product, though equal in theory, may be rounded differently.
    """
    return matrix.triu() + matrix.triu(1).mT


class _WeightedGram(Primitive):
    """`weighted_gram`."""

    @staticmethod
    def forward(features: Tensor, squares: Tensor, kernel: int) -> Tensor:
        pixels = _Pixels.of(features, squares, kernel)
        count = kernel**2
        upper: dict[tuple[int, int], Tensor] = {}
        for start in range(0, pixels.squares.shape[-1], _PIXELS):
            part = slice(start, start + _PIXELS)
            for row in range(count):
                weighted = pixels.seen_by(row)[..., part] * pixels.squares[..., part]
                for column in range(row, count):
                    seen, pair = pixels.seen_by(column)[..., part].mT, (row, column)
                    product = (
                        torch.baddbmm(upper[pair], weighted, seen) if start else weighted @ seen
                    )
                    upper[pair] = product
        rows = [
            torch.stack([_block(upper, row, column) for column in range(count)])
            for row in range(count)
        ]
        # (K², K², batch, C, C) to (*batch, C·K², C·K²).
        gram = torch.stack(rows).permute(2, 3, 0, 4, 1)
        size = features.shape[-3] * count
        return gram.reshape(*features.shape[:-4], size, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.kernel = inputs[2]

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, squares = ctx.saved_tensors
        pixels = _Pixels.of(features, squares, ctx.kernel)
        batch, channels, length = pixels.features.shape
        count = ctx.kernel**2
        both = (outer + outer.mT).reshape(batch, channels, count, channels, count)
        of_features = torch.zeros_like(pixels.features)
        of_squares = torch.zeros_like(pixels.squares)
        for entry in range(count):
            response = both[:, :, entry, :, 0] @ pixels.seen_by(0)
            for other in range(1, count):
                response = torch.baddbmm(
                    response, both[:, :, entry, :, other], pixels.seen_by(other)
                )
            of_squares = of_squares + (pixels.seen_by(entry) * response).sum(-2, keepdim=True)
            start = pixels.starts[entry]
            end = length - start - pixels.squares.shape[-1]
            of_features = of_features + F.pad(response * pixels.squares, (start, end))
        return pixels.frames(of_features), 0.5 * pixels.maps(of_squares), None


def _sum_of_products(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    return left @ right if total is None else torch.baddbmm(total, left, right)


def _block(upper: dict[tuple[int, int], Tensor], row: int, column: int) -> Tensor:
    """A block of a symmetric matrix of which the upper ones are given."""
    if row == column:
        return symmetric(upper[row, row])
    return upper[row, column] if row < column else upper[column, row].mT


class _Pixels(NamedTuple):
    """Frames as one row of pixels with zeros between the rows and the frames."""

    features: Tensor  # (batch, C, L + margins)
    squares: Tensor  # (batch, 1, L), zero between the rows and the frames
    starts: list[int]  # where the slice that each entry of a patch sees begins
    shape: torch.Size  # of the features, (*batch, N, C, H, W)
    reach: int

    @classmethod
    def of(cls, features: Tensor, squares: Tensor, kernel: int) -> "_Pixels":
        *batch, frames, channels, height, width = features.shape
        reach, problems = kernel // 2, math.prod(batch)
        side = width + reach
        by_channel = features.reshape(problems, frames, channels, height, width).movedim(1, 2)
        between = (0, reach, 0, reach)
        row = F.pad(by_channel, between).flatten(2)
        maps = F.pad(squares.reshape(problems, 1, frames, height, width), between).flatten(2)
        starts = [y * side + x for y in range(kernel) for x in range(kernel)]
        return cls(
            F.pad(row, (reach * side + reach, reach)),
            # Nothing has weight in the zeros below the last frame.
            maps[..., : maps.shape[-1] - reach * side],
            starts,
            features.shape,
            reach,
        )

    def seen_by(self, entry: int) -> Tensor:
        """What an entry of the patches sees at each pixel, (batch, C, L)."""
        start = self.starts[entry]
        return self.features[..., start : start + self.squares.shape[-1]]

    def frames(self, row: Tensor) -> Tensor:
        """A row like `features` as frames (*batch, N, C, H, W)."""
        *_, frames, _, height, width = self.shape
        margin = self.reach * (width + self.reach) + self.reach
        row = row[..., margin : row.shape[-1] - self.reach]
        spaced: Tensor = row.unflatten(2, (frames, height + self.reach, width + self.reach))  # type: ignore[no-untyped-call]
        return spaced[..., :height, :width].movedim(2, 1).reshape(self.shape)

    def maps(self, row: Tensor) -> Tensor:
        """A row like `squares` as maps (*batch, N, H, W)."""
        *batch, frames, _, height, width = self.shape
        row = F.pad(row, (0, self.reach * (width + self.reach)))
        spaced = row.reshape(*batch, frames, height + self.reach, width + self.reach)
        return spaced[..., :height, :width]
