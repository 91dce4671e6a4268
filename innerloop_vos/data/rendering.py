"""Rendering of clips with exact masks: flat objects that move before a background."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_MARGIN = 1.3
"""Size of the background relative to the frame: room for the camera to move."""


@dataclass
class Sprite:
    """One object: its shape, its texture and its motion over a clip, where time runs 0 to 1.

    The centre is `meeting + swing * cos(pi * time)`, so that time 1/2 is at the meeting point.
    """

    inside: Callable[[Tensor, Tensor], Tensor]
    """How far points (u, v) lie inside the edge, negative outside; the radius is 1."""
    texture: Tensor  # (3, T, T) in 0..1, for u and v from -1 to 1
    radius: float  # pixels
    meeting: tuple[float, float]  # x, y in pixels
    swing: tuple[float, float]
    angle: float  # radians, at time 0
    spin: float  # radians over the clip
    growth: float  # relative change of the radius, there and back
    softness: float = 1.0  # width of the edge in pixels
    first: int = 0  # the frame in which it appears

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
        coverage = (self.inside(u, v) * radius / self.softness + 0.5).clamp_(0, 1)
        window = picture[:, top:bottom, left:right]
        window += coverage * (sample(self.texture, u, v) - window)
        mask[top:bottom, left:right][coverage >= 0.5] = id_


class Camera:
    """A camera that pans, turns and zooms over a background wider than the frame.

    Args:
        canvas: the background, `(3, *canvas_size(size))` in 0..1.
        size: height and width of the frame in pixels.
        generator: the source of randomness.
    """

    def __init__(self, canvas: Tensor, size: tuple[int, int], generator: torch.Generator) -> None:
        self.canvas = canvas
        self.size = size
        slack = (1 - 1 / _MARGIN) / 2
        self.start, self.end = (
            [uniform(-slack, slack, generator) for _ in range(2)] for _ in range(2)
        )
        self.turn = uniform(-0.05, 0.05, generator)
        self.zoom = uniform(-0.05, 0.05, generator)

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


def render(
    camera: Camera, sprites: Sequence[Sprite], times: Sequence[float], light: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Render sprites before a background, each in front of those before it.

    Args:
        camera: the camera over the background.
        sprites: the objects, of ids 1, 2 ...
        times: the moment of every frame, from 0 to 1.
        light: relative change of the brightness, there and back. Default 0.

    Returns:
        The frames, `(len(times), 3, H, W)` uint8 RGB, and their object ids, `(len(times), H, W)`
        uint8. A pixel has the id of the object that covers at least half of it.
    """
    frames = torch.empty(len(times), 3, *camera.size, dtype=torch.uint8)
    masks = torch.zeros(len(times), *camera.size, dtype=torch.uint8)
    for index, time in enumerate(times):
        picture = camera.view(time)
        for id_, sprite in enumerate(sprites, start=1):
            if index >= sprite.first:
                sprite.paint(time, picture, masks[index], id_)
        gain = 1 + light * math.sin(math.pi * time)
        frames[index] = picture.mul_(255 * gain).round_().clamp_(0, 255).to(torch.uint8)
    return frames, masks


def moments(length: int, generator: torch.Generator) -> list[float]:
    """Return `length` moments spread evenly over 0 to 1, or any single one."""
    if length == 1:
        return [uniform(0, 1, generator)]
    return [index / (length - 1) for index in range(length)]


def cross_paths(sprites: Sequence[Sprite], size: tuple[int, int], first: float) -> None:
    """Move sprites on paths that start around the frame and cross at its centre.

    Args:
        sprites: the objects, whose `meeting` and `swing` are set.
        size: height and width of the frame in pixels.
        first: the direction in which the first one starts, in radians.
    """
    height, width = size
    for index, sprite in enumerate(sprites):
        direction = first + 2 * math.pi * index / len(sprites)
        across = math.cos(direction), math.sin(direction)
        # At the meeting, the centres lie on a circle on which neighbours overlap.
        offset = 0.5 * sprite.radius
        sprite.meeting = width / 2 - offset * across[1], height / 2 + offset * across[0]
        sprite.swing = (
            across[0] * (width / 2 - sprite.radius),
            across[1] * (height / 2 - sprite.radius),
        )


def canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the background of a camera with frames of `size`."""
    return int(size[0] * _MARGIN), int(size[1] * _MARGIN)


def sample(image: Tensor, u: Tensor, v: Tensor, padding: str = "zeros") -> Tensor:
    """Sample an image, `(C, T, T)`, at points of shape `(H, W)` from -1 to 1: `(C, H, W)`."""
    points = torch.stack([u, v], dim=-1)[None]
    return F.grid_sample(image[None], points, padding_mode=padding, align_corners=False)[0]


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a random number from `low` to `high`."""
    return low + (high - low) * float(torch.rand((), generator=generator))
