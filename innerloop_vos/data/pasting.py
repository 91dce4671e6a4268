"""Synthetic mini-sequences: objects cut out of one clip and moved over another."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop_vos.data.sampling import MIN_AREA, MiniSequence, Sampler, uniform
from innerloop_vos.io.masks import mask_to_box

_CROSSING = 0.5
_SIZES = (0.5, 1.5)
"""Of pasted objects, relative to the scene's; those that may hide it are up to the whole frame."""

_SOFT = 3  # pixels of the seam


class PastingSampler(Sampler):
    """Draws mini-sequences, and pastes an object of another clip into a share of them.

    The pasted object moves along a line, which crosses the scene's object in half of them. Equally
    often it is a distractor or occluder of the scene's object, or the target itself; then the
    scene's object is a distractor or, in half of these, an occluder.

    Args:
        sampler: draws the scenes and the cut-outs.
        share: share of the mini-sequences that something is pasted into, 0 to 1.
        hide: whether the target may be hidden in all frames but the first, and what is pasted be
            large enough for that. Default False.
    """

    def __init__(self, sampler: Sampler, share: float, *, hide: bool = False) -> None:
        self.sampler, self.share, self.hide = sampler, share, hide

    def sample(self) -> MiniSequence:
        """Draw a mini-sequence."""
        scene = self.sampler.sample()
        if uniform(0, 1) >= self.share:
            return scene
        cutout = self.sampler.sample()
        target, behind = uniform(0, 1) < 0.5, uniform(0, 1) < 0.5
        path = draw_path(scene, large=self.hide)
        return paste(scene, cutout, path, target=target, behind=target and behind, hide=self.hide)

    def place(self) -> Tensor:
        return self.sampler.place()

    def go_to(self, place: Tensor) -> None:
        self.sampler.go_to(place)


@dataclass(frozen=True)
class Path:
    """A line over a scene.

    Attributes:
        start: centre (x, y) of the moving object in the first frame, in pixels.
        end: centre in the last frame.
        size: square root of the area of its box, relative to the scene's object.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    size: float


def draw_path(scene: MiniSequence, *, large: bool = False) -> Path:
    """Draw a line between two points of the frame; half of them cross the scene's object.

    Args:
        scene: mini-sequence that is pasted into.
        large: whether the moving object may be as large as the frame. Default False.
    """
    height, width = scene.masks[0].shape
    start = uniform(0, width), uniform(0, height)
    end = uniform(0, width), uniform(0, height)
    if uniform(0, 1) < _CROSSING:
        middle = scene.masks[len(scene.masks) // 2]
        x, y, w, h = mask_to_box(middle if middle.any() else scene.masks[0])
        end = 2 * (x + w / 2) - start[0], 2 * (y + h / 2) - start[1]
    size = uniform(*_SIZES)
    if large:
        _, _, w, h = mask_to_box(scene.masks[0])
        whole = max(_SIZES[1], (height * width / (h * w)) ** 0.5)
        size = math.exp(uniform(math.log(_SIZES[0]), math.log(whole)))
    return Path(start, end, size)


def paste(
    scene: MiniSequence,
    cutout: MiniSequence,
    path: Path,
    *,
    target: bool,
    behind: bool,
    hide: bool = False,
) -> MiniSequence:
    """Move the object of one mini-sequence over another.

    Args:
        scene: mini-sequence that is pasted into.
        cutout: mini-sequence whose object is pasted; of the same length.
        path: path that the object takes.
        target: whether the result's object is the pasted one, instead of the scene's.
        behind: whether it passes behind the scene's object.
        hide: whether the result's object may be out of sight in all frames but the first. Default
            False.

    Returns:
        The new frames, and what can be seen of the object. Where that is nothing, and may not be
        so, the frames of the scene are left as they are, with the scene's object.
    """
    frames, pasted = overlay(scene, cutout, path, behind=behind)
    masks = [mask & ~over for mask, over in zip(scene.masks, pasted, strict=True)]
    masks = pasted if target else masks
    if any(mask.sum() <= MIN_AREA for mask in (masks[:1] if hide else masks)):
        return scene
    return MiniSequence(frames, masks)


def overlay(
    scene: MiniSequence, cutout: MiniSequence, path: Path, *, behind: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Move the object of one mini-sequence over another.

    Args:
        scene, cutout, path, behind: as of `paste`.

    Returns:
        The new frames, each of shape `(3, H, W)`, uint8, and what can be seen of the object that
        is pasted, each of shape `(H, W)`, bool.
    """
    _, _, *place = mask_to_box(scene.masks[0])
    _, _, *box = mask_to_box(cutout.masks[0])
    # One scale for all frames, so that what the object does in its own clip is kept.
    scale = path.size * (math.prod(place) / math.prod(box)) ** 0.5
    frames, masks = [], []
    for index, (frame, mask) in enumerate(zip(scene.frames, scene.masks, strict=True)):
        time = index / max(1, len(scene.frames) - 1)
        centre = tuple((1 - time) * a + time * b for a, b in zip(path.start, path.end, strict=True))
        colours, alpha = _place(
            cutout.frames[index], cutout.masks[index], (centre[0], centre[1]), scale, mask.shape
        )
        if behind:
            alpha = alpha * ~mask
        frames.append((frame + alpha * (colours - frame)).round().to(torch.uint8))
        masks.append(alpha >= 0.5)
    return frames, masks


def _place(
    frame: Tensor, mask: Tensor, centre: tuple[float, float], scale: float, size: torch.Size
) -> tuple[Tensor, Tensor]:
    """Draw the object of a frame on an empty canvas: its colours (3, H, W) and coverage (H, W)."""
    if not mask.any():
        return torch.zeros(3, *size), torch.zeros(size)
    x, y, width, height = mask_to_box(mask)
    # A margin of one pixel lets the seam fade outside the object.
    cut = torch.cat([frame.float(), mask[None].float()])[:, y : y + height, x : x + width]
    cut = F.pad(cut[None], (1, 1, 1, 1), mode="replicate")
    cut[:, 3:, [0, -1]] = 0
    cut[:, 3:, :, [0, -1]] = 0
    shape = [max(1, round(scale * side)) for side in cut.shape[-2:]]
    cut = F.interpolate(cut, shape, mode="bilinear", antialias=scale < 1)
    coverage = F.avg_pool2d(cut[:, 3:], _SOFT, 1, _SOFT // 2)
    cut = torch.cat([cut[:, :3], coverage], dim=1)[0]
    canvas = cut.new_zeros(4, *size)
    source, destination = [], []
    for c, length, limit in zip(reversed(centre), shape, size, strict=True):
        start = round(c - length / 2)
        first, last = max(start, 0), max(min(start + length, limit), 0)
        destination.append(slice(first, last))
        source.append(slice(first - start, max(last - start, first - start)))
    if all(part.start < part.stop for part in destination):
        canvas[:, destination[0], destination[1]] = cut[:, source[0], source[1]]
    return canvas[:3], canvas[3]
