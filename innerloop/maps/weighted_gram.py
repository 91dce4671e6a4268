"""The weighted Gram matrix of the entries of patches, without making the patches."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop._primitive import Primitive


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


class _WeightedGram(Primitive):
    """`weighted_gram`."""

    @staticmethod
    def forward(features: Tensor, squares: Tensor, kernel: int) -> Tensor:
        pixels = _Pixels.of(features, squares, kernel)
        batch, channels, _ = pixels.features.shape
        count = kernel**2
        gram = features.new_empty(batch, channels, count, channels, count)
        for first in range(count):
            weighted = pixels.seen_by(first) * pixels.squares
            for second in range(first, count):
                product = weighted @ pixels.seen_by(second).mT
                if first == second:
                    product = product.triu() + product.triu(1).mT
                gram[:, :, first, :, second] = product
                gram[:, :, second, :, first] = product.mT
        size = channels * count
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
                response = torch.baddbmm(response, both[:, :, entry, :, other], pixels.seen_by(other))
            of_squares = of_squares + (pixels.seen_by(entry) * response).sum(-2, keepdim=True)
            start = pixels.starts[entry]
            end = length - start - pixels.squares.shape[-1]
            of_features = of_features + F.pad(response * pixels.squares, (start, end))
        return pixels.frames(of_features), 0.5 * pixels.maps(of_squares), None


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
        row = F.pad(by_channel, between).reshape(problems, channels, -1)
        maps = F.pad(squares.reshape(problems, 1, frames, height, width), between)
        maps = maps.reshape(problems, 1, -1)
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
        *batch, frames, channels, height, width = self.shape
        margin = self.reach * (width + self.reach) + self.reach
        row = row[..., margin : row.shape[-1] - self.reach]
        spaced = row.reshape(-1, channels, frames, height + self.reach, width + self.reach)
        return spaced[..., :height, :width].movedim(2, 1).reshape(self.shape)

    def maps(self, row: Tensor) -> Tensor:
        """A row like `squares` as maps (*batch, N, H, W)."""
        *batch, frames, _, height, width = self.shape
        row = F.pad(row, (0, self.reach * (width + self.reach)))
        spaced = row.reshape(*batch, frames, height + self.reach, width + self.reach)
        return spaced[..., :height, :width]
