"""Clips of things cut out of photographs, with exact masks."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data.cutouts import CUTOUTS, Cutout, cut
from innerloop_vos.data.photographs import photograph
from innerloop_vos.data.rendering import (
    Camera,
    Sprite,
    canvas_size,
    cross_paths,
    moments,
    render,
    sample,
    uniform,
)

_BACKGROUNDS = {
    "gravel.png": ((40, 36, 34), (225, 215, 195)),
    "grass.png": ((20, 40, 15), (190, 205, 120)),
    "rocket.jpg": None,
}
"""Photographs, and the colours of the darkest and the brightest pixels of those that are grey.

All are in the public domain: CC0 (CC0Textures; linolafett, DeviantArt) and SpaceX.
"""


def photo_clip(
    length: int = 24, size: tuple[int, int] = (240, 432), objects: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Render a clip of things cut out of photographs before a photograph that moves.

    The things turn, grow and shrink, are apart in the first frame, occlude each other around the
    middle, and are apart again at the end, while the light changes. The one with the larger id is
    in front. The photographs come with scikit-image.

    Args:
        length: number of frames. Default 24.
        size: height and width in pixels, each at least 16. Default (240, 432).
        objects: number of objects, 1 to 4. Default 3.
        seed: the same seed gives the same clip. Default 0.

    Returns:
        The frames, `(length, 3, H, W)` uint8 RGB, and their object ids, `(length, H, W)`
        uint8. A pixel has the id of the object that covers at least half of it.

    Raises:
        InputError: an argument is out of its range, or scikit-image is not installed.
    """
    if length < 1 or min(size) < 16 or not 1 <= objects <= len(CUTOUTS):
        raise InputError(
            "a clip of photographs needs length >= 1, height and width >= 16 and 1 to "
            f"{len(CUTOUTS)} objects; got length {length}, size {size}, objects {objects}"
        )
    generator = torch.Generator().manual_seed(seed)
    camera = Camera(_canvas(canvas_size(size), generator), size, generator)
    things = [*CUTOUTS.values()]
    chosen = torch.randperm(len(things), generator=generator)[:objects].tolist()
    sprites = [_sprite(things[index], min(size), generator) for index in chosen]
    # The frame is wide: from side to side, the paths are the longest.
    cross_paths(sprites, size, uniform(-0.3, 0.3, generator))
    return render(camera, sprites, moments(length, generator), uniform(-0.3, 0.2, generator))


def _sprite(thing: Cutout, shorter: int, generator: torch.Generator) -> Sprite:
    """Make an object of any size that stands upright at first."""
    radius = shorter * uniform(0.22, 0.27, generator)
    texture, inside = cut(thing, max(32, round(2 * radius)))
    return Sprite(
        inside=partial(_inside, inside),
        texture=texture,
        radius=radius,
        meeting=(0, 0),
        swing=(0, 0),
        angle=uniform(-0.2, 0.2, generator),
        spin=uniform(-0.8, 0.8, generator),
        growth=uniform(-0.2, 0.25, generator),
        softness=1.5,
    )


def _inside(distances: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return sample(distances[None], u, v, padding="border")[0]


def _canvas(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Make a background, `(3, *size)` in 0..1, of any of the photographs."""
    names = [*_BACKGROUNDS]
    name = names[int(torch.randint(len(names), (), generator=generator))]
    picture = photograph(name)[None] / 255
    tones = _BACKGROUNDS[name]
    if tones:
        dark, bright = (torch.tensor(tone)[:, None, None] / 255 for tone in tones)
        picture = torch.lerp(dark, bright, picture)
    scale = max(a / b for a, b in zip(size, picture.shape[2:], strict=True))
    filled = [max(a, round(scale * b)) for a, b in zip(size, picture.shape[2:], strict=True)]
    picture = F.interpolate(picture, filled, mode="bicubic", antialias=True)[0].clamp_(0, 1)
    top, left = ((a - b) // 2 for a, b in zip(filled, size, strict=True))
    return picture[:, top : top + size[0], left : left + size[1]]
