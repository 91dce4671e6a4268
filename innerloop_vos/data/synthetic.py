"""Synthetic clips with exact masks: textured shapes that move, rotate, scale and overlap.

No two clips look alike, so they can be used for training as well as for experiments.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data.texture import outline, texture

_MARGIN = 1.3
"""Size of the background relative to the frame: room for the camera to move."""


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
    camera = _Camera(size, generator)
    sprites = _sprites(size, objects, generator)
    frames = torch.empty(length, 3, *size, dtype=torch.uint8)
    masks = torch.zeros(length, *size, dtype=torch.uint8)
    for index in range(length):
        # A single frame shows any moment.
        time = index / (length - 1) if length > 1 else _uniform(0, 1, generator)
        picture = camera.view(time)
        for id_, sprite in enumerate(sprites, start=1):
            if not (late and id_ == objects and 3 * index < length):
                sprite.paint(time, picture, masks[index], id_)
        frames[index] = picture.mul_(255).round_().to(torch.uint8)
    return frames, masks


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


@dataclass
class _Sprite:
    """One object: its outline, its texture and its motion over a clip, where time runs 0 to 1.

    The centre is `meeting + swing * cos(pi * time)`, so that time 1/2 is at the meeting point.
    """

    outline: Tensor  # (A,) distance from the centre to the edge by angle, at most 1
    texture: Tensor  # (3, T, T) in 0..1
    radius: float  # pixels
    meeting: tuple[float, float]  # x, y in pixels
    swing: tuple[float, float]
    angle: float  # radians, at time 0
    spin: float  # radians over the clip
    growth: float  # relative change of the radius, there and back

    def paint(self, time: float, picture: Tensor, mask: Tensor, id_: int) -> None:
        """Draw over `picture`, `(3, H, W)` in 0..1, and `mask`, `(H, W)`, in place."""
        x = self.meeting[0] + self.swing[0] * math.cos(math.pi * time)
        y = self.meeting[1] + self.swing[1] * math.cos(math.pi * time)
        radius = self.radius * (1 + self.growth * math.sin(math.pi * time))
        height, width = mask.shape
        top, bottom = max(0, int(y - radius) - 1), min(height, int(y + radius) + 2)
        left, right = max(0, int(x - radius) - 1), min(width, int(x + radius) + 2)
        if top >= bottom or left >= right:
            return
        # Everything is sampled in the object's own coordinates, where its radius is 1.
        dy = (torch.arange(top, bottom) - y)[:, None] / radius
        dx = (torch.arange(left, right) - x)[None, :] / radius
        angle = self.angle + self.spin * time
        u = dx * math.cos(angle) + dy * math.sin(angle)
        v = dy * math.cos(angle) - dx * math.sin(angle)
        turns = torch.atan2(v, u) / (2 * math.pi) % 1
        edge = self.outline[(turns * len(self.outline)).long().clamp_(max=len(self.outline) - 1)]
        coverage = ((edge - torch.hypot(u, v)) * radius + 0.5).clamp_(0, 1)
        colours = F.grid_sample(
            self.texture[None], torch.stack([u, v], dim=-1)[None], align_corners=False
        )[0]
        window = picture[:, top:bottom, left:right]
        window += coverage * (colours - window)
        mask[top:bottom, left:right][coverage >= 0.5] = id_


class _Camera:
    """A background wider than the frame, and a camera that pans, turns and zooms over it."""

    def __init__(self, size: tuple[int, int], generator: torch.Generator) -> None:
        self.size = size
        wide = (int(size[0] * _MARGIN), int(size[1] * _MARGIN))
        self.canvas = texture(wide, generator)
        unused = torch.zeros(wide, dtype=torch.uint8)
        for _ in range(4):  # clutter that looks like the objects
            _sprite(wide, generator).paint(0, self.canvas, unused, 0)
        slack = (1 - 1 / _MARGIN) / 2
        self.start, self.end = (
            [_uniform(-slack, slack, generator) for _ in range(2)] for _ in range(2)
        )
        self.turn = _uniform(-0.05, 0.05, generator)
        self.zoom = _uniform(-0.05, 0.05, generator)

    def view(self, time: float) -> Tensor:
        """Return the background that the camera sees, `(3, H, W)` in 0..1."""
        scale = (1 + self.zoom * time) / _MARGIN
        cos, sin = math.cos(self.turn * time) * scale, math.sin(self.turn * time) * scale
        x, y = ((1 - time) * a + time * b for a, b in zip(self.start, self.end, strict=True))
        aspect = self.size[0] / self.size[1]
        matrix = torch.tensor([[[cos, -sin * aspect, x], [sin / aspect, cos, y]]])
        grid = F.affine_grid(matrix, [1, 3, *self.size], align_corners=False)
        view = F.grid_sample(
            self.canvas[None], grid, padding_mode="reflection", align_corners=False
        )
        return view[0]


def _sprites(size: tuple[int, int], count: int, generator: torch.Generator) -> list[_Sprite]:
    """Make objects whose paths start around the frame and cross at its centre."""
    height, width = size
    first = _uniform(0, 2 * math.pi, generator)
    sprites = []
    for index in range(count):
        sprite = _sprite(size, generator)
        direction = first + 2 * math.pi * index / count
        across = math.cos(direction), math.sin(direction)
        # At the meeting, the centres lie on a circle on which neighbours overlap.
        offset = 0.5 * sprite.radius
        sprite.meeting = width / 2 - offset * across[1], height / 2 + offset * across[0]
        sprite.swing = (
            across[0] * (width / 2 - sprite.radius),
            across[1] * (height / 2 - sprite.radius),
        )
        sprites.append(sprite)
    return sprites


def _sprite(size: tuple[int, int], generator: torch.Generator) -> _Sprite:
    """Make an object at a random place that stays there."""
    radius = min(size) * _uniform(0.12, 0.22, generator)
    side = max(8, round(2 * radius))
    return _Sprite(
        outline=outline(generator),
        texture=texture((side, side), generator),
        radius=radius,
        meeting=(_uniform(0, size[1], generator), _uniform(0, size[0], generator)),
        swing=(0, 0),
        angle=_uniform(0, 2 * math.pi, generator),
        spin=_uniform(-1.5, 1.5, generator),
        growth=_uniform(-0.2, 0.3, generator),
    )


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
