"""The weighted Gram matrix of the entries of patches, without making the patches."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop._primitive import Primitive

_PIXELS = 4096
"""Number of pixels that are processed at a time, few enough for the cache."""


def weighted_gram(features: Tensor, squares: Tensor, kernel: int) -> Tensor:
    """Σ v u uᵀ over all pixels, for the patch u that a filter of side `kernel` sees there.

    With zeros between its rows, a frame is one long row of pixels, and so are all frames: each
    entry of the patches is a slice of it. Only the K entries of a row of the filter are copied
    beside one another, for some pixels at a time, so that K(K + 1) / 2 large matrix products
    suffice.

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
        upper: dict[tuple[int, int], Tensor] = {}
        for start in range(0, pixels.squares.shape[-1], _PIXELS):
            weights = pixels.squares[..., start : start + _PIXELS]
            seen = pixels.seen(start, weights.shape[-1])
            for above, row in enumerate(seen):
                weighted = row * weights
                for below in range(above, kernel):
                    pair, other = (above, below), seen[below].mT
                    upper[pair] = (
                        torch.baddbmm(upper[pair], weighted, other) if start else weighted @ other
                    )
        rows = [
            torch.cat([_block(upper, above, below) for below in range(kernel)], -1)
            for above in range(kernel)
        ]
        gram = _reordered(torch.cat(rows, -2), (kernel**2, features.shape[-3]))
        return gram.reshape(*features.shape[:-4], *gram.shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.kernel = inputs[2]

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        features, squares = ctx.saved_tensors
        kernel, channels = ctx.kernel, features.shape[-3]
        pixels = _Pixels.of(features, squares, kernel)
        seen = pixels.seen(0, pixels.squares.shape[-1])
        both = (outer + outer.mT).reshape(len(pixels.features), *outer.shape[-2:])
        both = _reordered(both, (channels, kernel**2))
        of_seen = []
        of_squares = torch.zeros_like(pixels.squares)
        for row, blocks in zip(seen, both.chunk(kernel, -2), strict=True):
            first, *others = blocks.chunk(kernel, -1)
            response = first @ seen[0]
            for block, other in zip(others, seen[1:], strict=True):
                response = torch.baddbmm(response, block, other)
            of_squares = of_squares + (row * response).sum(-2, keepdim=True)
            of_seen.append(response * pixels.squares)
        return pixels.frames(pixels.unseen(of_seen)), 0.5 * pixels.maps(of_squares), None


def _block(upper: dict[tuple[int, int], Tensor], row: int, column: int) -> Tensor:
    """A block of a symmetric matrix of which the upper ones are given."""
    if row == column:
        return symmetric(upper[row, row])
    return upper[row, column] if row < column else upper[column, row].mT


def _reordered(matrix: Tensor, sizes: tuple[int, int]) -> Tensor:
    """A matrix whose rows and columns run over pairs, ordered by the second of each pair first."""
    pairs = matrix.reshape(len(matrix), *sizes, *sizes).permute(0, 2, 1, 4, 3)
    return pairs.reshape(matrix.shape)


class _Pixels(NamedTuple):
    """Frames as one row of pixels with zeros between the rows and the frames."""

    features: Tensor  # (batch, C, L + margins)
    squares: Tensor  # (batch, 1, L), zero between the rows and the frames
    shape: torch.Size  # of the frames, (*batch, N, C, H, W)
    kernel: int

    @classmethod
    def of(cls, features: Tensor, squares: Tensor, kernel: int) -> "_Pixels":
        *batch, frames, channels, height, width = features.shape
        reach, problems = kernel // 2, math.prod(batch)
        between = (0, reach, 0, reach)
        by_channel = features.reshape(problems, frames, channels, height, width).movedim(1, 2)
        row = F.pad(by_channel, between).flatten(2)
        maps = F.pad(squares.reshape(problems, 1, frames, height, width), between).flatten(2)
        below = reach * (width + reach)
        # Nothing has weight in the zeros below the last frame.
        maps = maps[..., : maps.shape[-1] - below]
        return cls(F.pad(row, (below + reach, reach)), maps, features.shape, kernel)

    @property
    def side(self) -> int:
        """Number of pixels from one row of a frame to the next."""
        return self.shape[-1] + self.kernel // 2

    def seen(self, start: int, count: int) -> list[Tensor]:
        """What each row of the filter sees at `count` pixels, (batch, K·C, count)."""
        length = count + (self.kernel - 1) * self.side
        shifted = [self.features[..., start + x : start + x + length] for x in range(self.kernel)]
        beside = torch.cat(shifted, -2)
        return [beside[..., y * self.side : y * self.side + count] for y in range(self.kernel)]

    def unseen(self, seen: list[Tensor]) -> Tensor:
        """The transpose of `seen`, for all pixels."""
        margin = (self.kernel - 1) * self.side
        padded = [F.pad(row, (y * self.side, margin - y * self.side)) for y, row in enumerate(seen)]
        beside = torch.stack(padded).sum(0).chunk(self.kernel, -2)
        shifted = [F.pad(row, (x, self.kernel - 1 - x)) for x, row in enumerate(beside)]
        return torch.stack(shifted).sum(0)

    def frames(self, row: Tensor) -> Tensor:
        """A row like `features` as frames (*batch, N, C, H, W)."""
        *_, frames, _, height, width = self.shape
        reach = self.kernel // 2
        row = row[..., reach * self.side + reach : row.shape[-1] - reach]
        spaced: Tensor = row.unflatten(2, (frames, height + reach, self.side))  # type: ignore[no-untyped-call]
        return spaced[..., :height, :width].movedim(2, 1).reshape(self.shape)

    def maps(self, row: Tensor) -> Tensor:
        """A row like `squares` as maps (*batch, N, H, W)."""
        *batch, frames, _, height, width = self.shape
        reach = self.kernel // 2
        spaced = F.pad(row, (0, reach * self.side))
        spaced = spaced.reshape(*batch, frames, height + reach, self.side)
        return spaced[..., :height, :width]
