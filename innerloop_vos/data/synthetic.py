"""Synthetic clips with exact masks: textured shapes that move, rotate, scale and overlap.

No two clips look alike, so they can be used for training as well as for experiments.
"""

import math
from functools import partial

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data.rendering import (
    Camera,
    Sprite,
    canvas_size,
    cross_paths,
    moments,
    render,
    uniform,
)
from innerloop_vos.data.texture import outline, texture


def synthetic_clip(
    length: int = 24,
    size: tuple[int, int] = (240, 432),
    objects: int = 3,
    late: bool = False,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Render a clip of textured objects before a moving, cluttered background.

    The objects (up to three; more get crowded) are apart in the first frame, meet and occlude each
    other around the middle, and are apart again at the end. The one with the larger id is in front.

    Args:
        length: number of frames.
        size: height and width in pixels, each at least 16.
        objects: number of objects, 1 to 254.
        late: whether the last object is absent from the first third of the clip.
        seed: the same seed gives the same clip.

    Returns:
        The frames, `(length, 3, H, W)` uint8 RGB, and their object ids, `(length, H, W)`
        uint8. A pixel has the id of the object that covers at least half of it.

    Raises:
        InputError: an argument is out of its range.
    """
    if length < 1 or min(size) < 16 or not 1 <= objects <= 254:
        raise InputError(
            "a synthetic clip needs length >= 1, height and width >= 16 and 1 to 254 objects; "
            f"got length {length}, size {size}, objects {objects}"
        )
    generator = torch.Generator().manual_seed(seed)
    camera = _camera(size, generator)
    first = uniform(0, 2 * math.pi, generator)
    sprites = [_sprite(size, generator) for _ in range(objects)]
    cross_paths(sprites, size, first)
    if late:
        sprites[-1].first = math.ceil(length / 3)
    return render(camera, sprites, moments(length, generator))


def synthetic_image(
    size: tuple[int, int] = (240, 432), objects: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Render one image of textured objects at any moment of their motion.

    Args:
        size: height and width in pixels, each at least 16.
        objects: number of objects, 1 to 254.
        seed: the same seed gives the same image.

    Returns:
        The image, `(3, H, W)` uint8 RGB, and its object ids, `(H, W)` uint8.

    Raises:
        InputError: an argument is out of its range.
    """
    frames, masks = synthetic_clip(1, size, objects, seed=seed)
    return frames[0], masks[0]


def _camera(size: tuple[int, int], generator: torch.Generator) -> Camera:
    """Make a camera over a texture with clutter that looks like the objects."""
    wide = canvas_size(size)
    canvas = texture(wide, generator)
    unused = torch.zeros(wide, dtype=torch.uint8)
    for _ in range(4):
        _sprite(wide, generator).paint(0, canvas, unused, 0)
    return Camera(canvas, size, generator)


def _sprite(size: tuple[int, int], generator: torch.Generator) -> Sprite:
    """Make an object at a random place that stays there."""
    radius = min(size) * uniform(0.12, 0.22, generator)
    side = max(8, round(2 * radius))
    return Sprite(
        inside=partial(_inside, outline(generator)),
        texture=texture((side, side), generator),
        radius=radius,
        meeting=(uniform(0, size[1], generator), uniform(0, size[0], generator)),
        swing=(0, 0),
        angle=uniform(0, 2 * math.pi, generator),
        spin=uniform(-1.5, 1.5, generator),
        growth=uniform(-0.2, 0.3, generator),
    )


def _inside(outline: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return how far points lie inside an outline along the ray from the centre."""
    turns = torch.atan2(v, u) / (2 * math.pi) % 1
    edge = outline[(turns * len(outline)).long().clamp_(max=len(outline) - 1)]
    return edge - torch.hypot(u, v)
