"""Procedural textures and outlines, from which synthetic clips are made."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ANGLES = 1024


def texture(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Make a random texture: noise, a gradient, stripes or checks, in random colours.

    Args:
        size: height and width in pixels.
        generator: the source of randomness.

    Returns:
        The texture, `(3, H, W)` float32 RGB in 0..1.
    """
    kind = int(torch.randint(4, (), generator=generator))
    angle, frequency, phase, sharpness, roughness = torch.rand(5, generator=generator).tolist()
    rough = noise(size, generator)
    y = torch.linspace(0, size[0] / max(size), size[0])[:, None]
    x = torch.linspace(0, size[1] / max(size), size[1])[None, :]
    along = x * math.cos(math.pi * angle) + y * math.sin(math.pi * angle)
    across = y * math.cos(math.pi * angle) - x * math.sin(math.pi * angle)
    # Noise bends the lines, so that they do not look ruled.
    radians = 2 * math.pi * (2 + 10 * frequency)
    bent = radians * (along + 0.1 * rough) + 2 * math.pi * phase
    wave = torch.sin(bent)
    contrast = 1 + 8 * sharpness
    if kind == 0:
        pattern = rough
    elif kind == 1:
        pattern = (along - along.min()) / (along.max() - along.min())
    elif kind == 2:
        pattern = torch.sigmoid(contrast * wave)
    else:
        pattern = torch.sigmoid(contrast * wave * torch.sin(radians * (across + 0.1 * rough)))
    # Greys with a tint are more natural than colours drawn at random from the whole cube.
    tints = torch.rand(2, 3, 1, 1, generator=generator) - 0.5
    colours = (torch.rand(2, 1, 1, 1, generator=generator) + 0.6 * tints).clamp_(0, 1)
    grain = noise(size, generator, coarsest=12, decay=0.5 + 0.4 * roughness) - 0.5
    return (colours[0].lerp(colours[1], pattern) + 0.5 * grain).clamp_(0, 1)


def noise(
    size: tuple[int, int], generator: torch.Generator, coarsest: int = 3, decay: float = 0.5
) -> Tensor:
    """Make fractal noise: octaves of smooth noise, each finer and weaker than the last.

    Args:
        size: height and width in pixels.
        generator: the source of randomness.
        coarsest: number of cells along the longer side in the first octave.
        decay: the amplitude of an octave relative to the one before; rougher towards 1.

    Returns:
        The noise, `(H, W)` float32, scaled to 0..1.
    """
    octaves = max(1, round(math.log2(max(size) / coarsest)))
    total = torch.zeros(1, 1, 1, 1)
    for octave in reversed(range(octaves + 1)):
        # Enlarging the sum so far, instead of each octave, takes a third of the time.
        grid = [max(1, math.ceil(length / 2**octave)) for length in size]
        total = F.interpolate(total, grid, mode="bilinear") / decay
        total = total + torch.rand(1, 1, *grid, generator=generator)
    low, high = total.min(), total.max()
    return ((total - low) / (high - low))[0, 0]


def outline(generator: torch.Generator) -> Tensor:
    """Make a random outline: a smooth blob, an ellipse or a polygon, star-shaped about its centre.

    Args:
        generator: the source of randomness.

    Returns:
        The distance from the centre to the edge at equally spaced angles, `(1024,)` float32,
        at most 1.
    """
    kind = int(torch.randint(3, (), generator=generator))
    angles = torch.arange(_ANGLES) * (2 * math.pi / _ANGLES)
    if kind == 0:
        waves = torch.arange(2, 7)[:, None]
        amplitudes = 0.5 * torch.rand(5, 1, generator=generator) / waves
        phases = 2 * math.pi * torch.rand(5, 1, generator=generator)
        edge = 1 + (amplitudes * torch.cos(waves * angles + phases)).sum(dim=0)
    elif kind == 1:
        aspect = 0.4 + 0.5 * float(torch.rand((), generator=generator))
        edge = aspect / torch.hypot(aspect * torch.cos(angles), torch.sin(angles))
    else:
        edge = _polygon(angles, generator)
    return edge / edge.max()


def _polygon(angles: Tensor, generator: torch.Generator) -> Tensor:
    count = int(torch.randint(3, 9, (), generator=generator))
    jitter = 0.4 * torch.rand(count, generator=generator)
    corners = (torch.arange(count) + jitter) * (2 * math.pi / count)
    radii = 0.6 + 0.4 * torch.rand(count, generator=generator)
    points = radii[:, None] * torch.stack([corners.cos(), corners.sin()], dim=1)
    # The ray at an angle meets the side from corner p to the next, q, at (p x q) / (ray x (q - p)).
    side = torch.searchsorted(corners, angles, right=True) - 1
    p, q = points[side % count], points[(side + 1) % count]
    rays = torch.stack([angles.cos(), angles.sin()], dim=1)
    return _cross(p, q) / _cross(rays, q - p)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
