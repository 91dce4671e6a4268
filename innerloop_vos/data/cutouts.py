"""Things cut out of photographs, with soft edges and exact shapes."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from innerloop_vos.data.photographs import photograph


@dataclass(frozen=True)
class Cutout:
    """A thing in a photograph.

    Args:
        photograph: the name of its file.
        outline: the corners of its outline, x and y in pixels of the photograph.
    """

    photograph: str
    outline: tuple[tuple[int, int], ...]

    def square(self) -> tuple[int, int, int]:
        """Return left, top and side of a square that holds the thing however it is turned."""
        x, y = np.array(self.outline).T
        centre_x, centre_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
        radius = float(np.hypot(x - centre_x, y - centre_y).max()) + 1
        return round(centre_x - radius), round(centre_y - radius), round(2 * radius)


def cut(cutout: Cutout, side: int) -> tuple[Tensor, Tensor]:
    """Cut a thing out of its photograph.

    Args:
        cutout: the thing.
        side: height and width of what is returned, in pixels.

    Returns:
        Its texture, `(3, side, side)` float32 RGB in 0..1, which continues over the edge; and how
        far the pixels lie inside the edge, `(side, side)` float32, negative outside, in units of
        half the side.

    Raises:
        InputError: the photograph cannot be read.
    """
    left, top, width = cutout.square()
    corners = (torch.tensor(cutout.outline) - torch.tensor([left, top])) * (2 / width) - 1
    inside = signed_distance(_rounded(_rounded(corners)), side)
    pixels = photograph(cutout.photograph).permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels).crop((left, top, left + width, top + width))
    image = image.resize((side, side), Image.Resampling.LANCZOS)
    # What the photograph shows beside the thing would be a halo around it.
    rows, columns = distance_transform_edt(
        inside.numpy() < 2 / side, return_distances=False, return_indices=True
    )
    texture = torch.from_numpy(np.array(image)[rows, columns]).permute(2, 0, 1)
    return texture.contiguous() / 255, inside


def signed_distance(corners: Tensor, side: int) -> Tensor:
    """Return how far the pixels of a square from -1 to 1 lie inside a polygon.

    Args:
        corners: x and y of each, `(N, 2)` float32.
        side: height and width in pixels.

    Returns:
        The distance to the edge, `(side, side)` float32, negative outside.
    """
    at = (torch.arange(side) + 0.5) * (2 / side) - 1
    points = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)
    x, y = points.unbind(-1)
    nearest = torch.full((side, side), torch.inf)
    inside = torch.zeros(side, side, dtype=torch.bool)
    for a, b in zip(corners, corners.roll(-1, 0), strict=True):
        edge, way = b - a, points - a
        share = (way @ edge / edge.square().sum()).clamp_(0, 1)
        nearest = torch.minimum(nearest, (way - share[..., None] * edge).norm(dim=-1))
        # A ray to the right leaves the polygon once more often than it enters it.
        crosses = (a[1] > y) != (b[1] > y)
        inside ^= crosses & (x < a[0] + (y - a[1]) * edge[0] / edge[1])
    return torch.where(inside, nearest, -nearest)


def _rounded(corners: Tensor) -> Tensor:
    """Cut the corners of a polygon, (N, 2), at a quarter of its edges (Chaikin's algorithm)."""
    following = corners.roll(-1, 0)
    cuts = [corners.lerp(following, share) for share in (0.25, 0.75)]
    return torch.stack(cuts, dim=1).flatten(0, 1)


def _points(text: str) -> tuple[tuple[int, int], ...]:
    """Read points written as in the SVG format: x,y x,y ..."""
    pairs = (point.split(",") for point in text.split())
    return tuple((int(x), int(y)) for x, y in pairs)


CUTOUTS = {
    "astronaut": Cutout(
        "astronaut.png",
        _points(
            """
            234,18 258,22 277,33 290,46 297,62 298,78 299,92 295,108 287,120 277,128 271,136
            265,137 261,146 257,156 255,166 258,172 280,189 298,214 306,240 328,252 343,275
            353,310 358,344 330,358 300,382 282,404 240,424 180,432 110,428 60,420 24,406
            24,370 30,330 40,295 52,267 80,240 112,212 117,191 125,170 143,156 164,151
            183,151 184,142 181,131 172,119 164,105 157,84 157,67 165,56 184,43 194,33
            212,22
            """
        ),
    ),
    "cat": Cutout(
        "chelsea.png",
        _points(
            """
            62,4 392,3 384,25 371,50 359,68 356,85 360,108 361,124 358,140 354,160 348,180
            340,198 330,212 320,225 316,245 310,262 298,276 284,286 265,292 240,290 215,284
            190,274 160,264 134,250 110,232 90,213 70,194 55,172 45,142 39,110 37,80 37,34
            46,14
            """
        ),
    ),
    "coffee": Cutout(
        "coffee.png",
        _points(
            """
            289,20 320,23 350,33 376,49 393,66 402,75 412,69 421,73 420,84 416,106 440,129
            459,158 471,185 476,220 472,253 462,286 443,317 414,346 377,368 337,383 289,387
            240,381 200,367 163,345 131,314 107,285 91,252 81,216 82,184 91,152 105,128
            123,105 151,86 176,73 184,68 204,53 231,36 260,24
            """
        ),
    ),
    "shuttle": Cutout(
        "astronaut.png",
        _points(
            """
            408,2 419,2 427,8 433,22 436,40 439,47 443,41 446,44 451,56 453,70 454,110
            454,160 454,215 455,232 454,250 458,262 436,262 436,239 416,237 410,251 400,260
            390,261 384,254 376,262 368,269 368,262 373,250 381,228 357,225 355,218 358,205
            367,194 379,182 380,150 380,120 382,100 381,70 382,58 385,48 388,43 392,48
            396,46 397,30 402,10
            """
        ),
    ),
}
"""Things that the photographs of scikit-image show, all in the public domain.

By NASA: `astronaut.png`. CC0: `chelsea.png` (Stéfan van der Walt), `coffee.png` (Rachel Michetti).
"""
