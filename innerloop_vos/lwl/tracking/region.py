"""The part of a frame that the network looks at: where it lies, cut out and put back.

Points and sizes are (y, x) and (h, w) in pixels of the frame. The truncations and half pixels are
those of the released system, whose masks depend on them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[float, float]

BORDERS = ("inside_major", "inside", "replicate")
"""What happens to a region that leaves the frame. `inside` shrinks and shifts it until it fits;
`inside_major` lets it exceed the frame along one axis; `replicate` leaves it where it is. What then
lies outside repeats the frame's border."""

_FAR = -100.0
"""Score outside the search region."""


@dataclass(frozen=True)
class SearchRegion:
    """A rectangle of a frame, sampled at a fixed number of pixels.

    Attributes:
        rows: y of its top and its bottom, exclusive; may lie outside the frame or between pixels.
        columns: x of its left and its right.
        stride: of the frame's pixels that are used, where the region is much larger than the
            output.
        offset: row and column of the first pixel that is used.
        output: height and width that it is resized to.
    """

    rows: Pair
    columns: Pair
    stride: int
    offset: tuple[int, int]
    output: tuple[int, int]

    @property
    def centre(self) -> Pair:
        """Its middle, as a pixel of the frame."""
        return (sum(self.rows) - 1) / 2, (sum(self.columns) - 1) / 2

    @property
    def scale(self) -> float:
        """Pixels of the frame per output pixel."""
        height, width = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        return math.sqrt(height * width / math.prod(self.output))

    def crop(self, image: Tensor) -> Tensor:
        """Cut the region out of an image (C, H, W), bilinearly; beyond the border it is repeated.

        Returns:
            Shape (C, *output).
        """
        patch, _ = self._sample(image)
        return _resize(patch, self.output, "bilinear")

    def crop_mask(self, mask: Tensor) -> Tensor:
        """Cut the region out of a mask (H, W), to the nearest pixel; zero beyond the border.

        Returns:
            Shape `output`.
        """
        patch, seen = self._sample(mask[None])
        return _resize(patch * seen, self.output, "nearest")[0]

    def paste(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Put scores (*output) back into a frame of `size`; -100 outside the region."""
        if (self.rows, self.columns) == ((0, size[0]), (0, size[1])):
            return _resize(scores[None], size, "bilinear")[0]
        return paste(scores, self.scale, self.centre, size)

    def _sample(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels (C, h, w) under the region, and whether they lie in the image (h, w)."""
        index, inside = [], []
        for (start, end), offset, length in zip(
            (self.rows, self.columns), self.offset, image.shape[-2:], strict=True
        ):
            wanted = torch.arange(
                int(start / self.stride), int(end / self.stride), device=image.device
            )
            last = (length - 1 - offset) // self.stride
            index.append(wanted.clamp(0, last) * self.stride + offset)
            inside.append((wanted >= 0) & (wanted <= last))
        return image[:, index[0][:, None], index[1]], inside[0][:, None] & inside[1]


def whole_frame(frame: tuple[int, int], output: tuple[int, int]) -> SearchRegion:
    """The region that is the frame itself."""
    return SearchRegion((0, frame[0]), (0, frame[1]), 1, (0, 0), output)


def search_region(
    position: Pair,
    size: Pair,
    frame: tuple[int, int],
    output: tuple[int, int],
    border: str = "inside_major",
) -> SearchRegion:
    """Place a search region.

    Args:
        position: its centre.
        size: its height and width.
        frame: height and width of the frame.
        output: height and width that it is resized to.
        border: one of `BORDERS`. Default: as the released system.

    Returns:
        The region.
    """
    centre = [int(p) for p in position]
    if border != "replicate":
        ratios = [s / f for s, f in zip(size, frame, strict=True)]
        shrink = max(1.0, max(ratios) if border == "inside" else min(ratios))
        size = (int(size[0] / shrink), int(size[1] / shrink))
    stride = max(int(min(s / o for s, o in zip(size, output, strict=True)) - 0.1), 1)
    offset = (centre[0] % stride, centre[1] % stride)
    rows, columns = (
        _interval(
            (p - o) // stride, max(round(s / stride), 2), -(-(f - o) // stride), border, stride
        )
        for p, o, s, f in zip(centre, offset, size, frame, strict=True)
    )
    return SearchRegion(rows, columns, stride, offset, output)


def _interval(centre: int, count: int, length: int, border: str, stride: int) -> Pair:
    """Start and end, in pixels of the frame, of `count` of every `stride`-th of its pixels."""
    start, end = centre - (count - 1) / 2, centre + count / 2 + 1
    if border != "replicate":
        shift = max(-start, 0) - max(end - length, 0)
        start, end = start + shift, end + shift
        outside = (max(-start, 0) + max(end - length, 0)) // 2
        if outside > 0:  # larger than the frame: as much on either side
            start, end = -outside, end - start - outside
    return stride * start, stride * end


def first_sample(
    image: Tensor,
    mask: Tensor,
    box: tuple[int, int, int, int],
    output: tuple[int, int],
    factor: float = 5.0,
) -> tuple[Tensor, Tensor]:
    """Cut out the surroundings of an object that the user has marked.

    Args:
        image: the frame, shape (C, H, W).
        mask: of the object, shape (H, W).
        box: left, top, width and height of the object.
        output: height and width of the result.
        factor: side of the region in units of the object's, in the geometric mean.

    Returns:
        The image (C, *output) and the mask (*output).
    """
    x, y, width, height = box
    frame = image.shape[-2:]
    centre = (y + (height - 1) / 2, x + (width - 1) / 2)
    wanted = factor * math.sqrt(width * height / math.prod(output))
    scale = wanted / max(min(wanted * o / f for o, f in zip(output, frame, strict=True)), 1)
    # A crop of twice the size, of which the part is kept that overlaps the frame most.
    double = (2 * output[0], 2 * output[1])
    region = search_region(
        (round(centre[0]), round(centre[1])),
        (scale * double[0], scale * double[1]),
        (frame[0], frame[1]),
        double,
        "replicate",
    )
    index = []
    for c, o, f in zip(centre, output, frame, strict=True):
        start, end = c - (scale * o - 1) / 2, c + scale * o / 2 + 1
        shift = int((max(-start, 0) - max(end - f, 0)) / scale)
        kept = torch.arange(o, device=image.device) + o // 2 + shift
        index.append(kept.clamp(0, 2 * o - 1))
    patch = region.crop(image)[:, index[0][:, None], index[1]]
    return patch, region.crop_mask(mask)[index[0][:, None], index[1]]


def paste(scores: Tensor, scale: float, position: Pair, size: tuple[int, int]) -> Tensor:
    """Put the scores of a region back into its frame.

    Args:
        scores: of the region, shape (h, w).
        scale: pixels of the frame per pixel of the region.
        position: the region's centre in the frame.
        size: height and width of the frame.

    Returns:
        Scores, shape `size`, -100 outside the region.
    """
    scores = F.interpolate(
        scores[None, None], scale_factor=scale, mode="bilinear", align_corners=False
    )[0, 0]
    target, source = [], []
    for p, length, limit in zip(position, scores.shape, size, strict=True):
        start = int(p - 0.5 * length)
        target.append(slice(max(start, 0), max(min(start + length, limit), 0)))
        source.append(slice(max(-start, 0), max(min(length, limit - start), 0)))
    canvas = scores.new_full(size, _FAR)
    canvas[target[0], target[1]] = scores[source[0], source[1]]
    return canvas


def _resize(patch: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if patch.shape[-2:] == size:
        return patch
    align = False if mode == "bilinear" else None
    return F.interpolate(patch[None], size, mode=mode, align_corners=align)[0]
