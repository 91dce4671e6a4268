"""Geometry of training samples: the crop around an object, rotation and scale.

Points are (x, y) in pixels, boxes (left, top, width, height).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image, resized to a fixed number of pixels.

    Attributes:
        box: box of the rectangle, whole numbers; it may exceed the image.
        output: height and width that it is resized to.
    """

    box: tuple[int, int, int, int]
    output: tuple[int, int]

    def image(self, image: Tensor) -> Tensor:
        """Crop an image (C, H, W), float; beyond the border it is repeated.

        Returns:
            Shape (C, *output).
        """
        patch, _ = self._sample(image)
        return F.interpolate(patch[None], self.output, mode="bilinear", align_corners=False)[0]

    def mask(self, mask: Tensor) -> Tensor:
        """Crop a mask (H, W), float, to the nearest pixel; zero beyond the border.

        Returns:
            Shape `output`.
        """
        patch, seen = self._sample(mask[None])
        return F.interpolate((patch * seen)[None], self.output)[0, 0]

    def _sample(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x, y, width, height = self.box
        index, inside = [], []
        for start, count, length in ((y, height, image.shape[1]), (x, width, image.shape[2])):
            wanted = torch.arange(start, start + count, device=image.device)
            # The last row and column are never used, as in the released system.
            index.append(wanted.clamp(0, length - 2))
            inside.append((wanted >= 0) & (wanted <= length - 2))
        return image[:, index[0][:, None], index[1]], inside[0][:, None] & inside[1]


def target_crop(
    box: Box,
    size: tuple[int, int],
    output: tuple[int, int],
    factor: float = 5.0,
    border: str = "inside_major",
) -> Crop:
    """Place a crop around an object.

    Args:
        box: box of the object.
        size: height and width of the image.
        output: height and width that the crop is resized to.
        factor: side of the crop in units of the object's, in the geometric mean.
        border: whether a crop larger than the image shrinks until it fits ("inside"), until it fits
            along one axis ("inside_major"), or not at all ("replicate").

    Returns:
        The crop, moved inside the image as far as it fits.
    """
    left, top, width, height = box
    # In single precision, as the sizes are rounded up.
    side = np.sqrt(np.float32(width * height / math.prod(output))) * np.float32(factor)
    rows, columns = (math.ceil(np.float32(o) * side) for o in output)
    ratios = rows / size[0], columns / size[1]
    if border != "replicate":
        shrink = max(1.0, max(ratios) if border == "inside" else min(ratios))
        rows, columns = int(rows / shrink), int(columns / shrink)
    return Crop(
        (
            _start(left + width / 2, columns, size[1]),
            _start(top + height / 2, rows, size[0]),
            columns,
            rows,
        ),
        output,
    )


def _start(centre: float, count: int, length: int) -> int:
    start = round(centre - count / 2)
    start += max(0, -start) + min(0, length - start - count)
    outside = (max(0, -start) + max(0, start + count - length)) // 2
    return -outside if outside > 0 else start


def affine_matrix(degrees: float, scale: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Rotation and then scaling about the middle of an image.

    Args:
        degrees: angle, counter-clockwise as the image is seen.
        scale: factors along x and y.
        size: height and width of the image.

    Returns:
        The map from points of the image to points of the result, shape (2, 3), float64.
    """
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64)
    linear = torch.tensor(scale, dtype=torch.float64)[:, None] * rotation
    centre = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
    return torch.cat([linear, (centre - linear @ centre)[:, None]], dim=1)


def warp_image(image: Tensor, matrix: Tensor) -> Tensor:
    """Warp an image (C, H, W), float, bilinearly; beyond the border it is repeated.

    Args:
        image: the image.
        matrix: maps points of the image to points of the result, shape (2, 3).

    Returns:
        The result, of the same shape.
    """
    size = torch.tensor([image.shape[2], image.shape[1]], device=image.device)
    # grid_sample's coordinates: -1 and 1 are the outer edges of the first and the last pixel.
    grid = ((2 * _sources(image, matrix) + 1) / size - 1).to(image.dtype)
    return F.grid_sample(
        image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def warp_mask(mask: Tensor, matrix: Tensor) -> Tensor:
    """Warp a mask (H, W) to the nearest pixel; zero beyond the border. As `warp_image`."""
    x, y = (_sources(mask, matrix) + 0.5).floor().long().unbind(-1)
    height, width = mask.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return mask[y.clamp(0, height - 1), x.clamp(0, width - 1)] * inside


def _sources(image: Tensor, matrix: Tensor) -> Tensor:
    """The point (x, y) of the image that each pixel of the result shows, shape (H, W, 2)."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([x, y], dim=-1).to(matrix)
    sources = (points - matrix[:, 2]) @ matrix[:, :2].inverse().T
    return sources.to(image.device)
