"""Clips of two objects, made of clips of one: what DAVIS 2017 is to DAVIS 2016.

A network that has learned what objects look like finds the only object of a clip without being
told which. Where there are two, it has to learn from the first frame which one is meant.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.data.pasting import draw_path, paste
from innerloop_vos.data.sampling import MiniSequence
from innerloop_vos.io.frames import Frames

_TRIES = 100
_VISIBLE = 0.3
"""Min share of an object that is visible beside the other one in the first frame."""


class MemoryFrames(Frames):
    """Frames kept in one tensor.

    Args:
        images: shape (N, 3, H, W), uint8 RGB.
        names: names of the frames.
    """

    rate = 24.0

    def __init__(self, images: Tensor, names: list[str]) -> None:
        self.images, self.names = images, names
        self.size = (images.shape[2], images.shape[3])

    def _read(self, index: int) -> Tensor:
        return self.images[index]


def two_object_clips(clips: Sequence[Clip], frames: int, seed: int = 0) -> list[Clip]:
    """Move the object of each clip's neighbour over it, the next clip with which that works.

    Args:
        clips: clips of one object each, at least two, annotated in all frames.
        frames: number of frames per clip, from the first, which shows both objects.
        seed: seed of the paths that the objects take.

    Returns:
        One clip per given one: object 1 is the clip's own, object 2 the neighbour's, in front.

    Raises:
        InputError: there are fewer than two clips, or one of them goes with no other.
    """
    if len(clips) < 2:
        raise InputError(f"--held-out: {len(clips)} clip(s), should be two or more to be joined")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        turned = [[*clips[index:], *clips[:index]] for index in range(len(clips))]
        return [_joined_to_any(clip, others, frames) for clip, *others in turned]


def _joined_to_any(clip: Clip, others: Sequence[Clip], frames: int) -> Clip:
    for other in others:
        if joined := _joined(clip, other, frames):
            return joined
    raise InputError(
        f"sequence {clip.name}: in its first {frames} frames, no object of another sequence can be "
        "shown beside its own"
    )


def _joined(clip: Clip, other: Clip, frames: int) -> Clip | None:
    count = min(frames, len(clip.frames), len(other.frames))
    scene, cutout = (_beginning(each, count) for each in (clip, other))
    for _ in range(_TRIES):
        path = draw_path(scene)
        own = paste(scene, cutout, path, target=False, behind=False)
        visitor = paste(scene, cutout, path, target=True, behind=False)
        # Either is the scene itself if an object would not be visible.
        if own is scene or visitor is scene:
            continue
        if own.masks[0].sum() >= _VISIBLE * scene.masks[0].sum():
            labels = [
                front.to(torch.uint8) * 2 + behind.to(torch.uint8)
                for front, behind in zip(visitor.masks, own.masks, strict=True)
            ]
            names = clip.frames.names[:count]
            shown = MemoryFrames(torch.stack(own.frames), names)
            return Clip(f"{clip.name}+{other.name}", shown, labels)
    return None


def _beginning(clip: Clip, count: int) -> MiniSequence:
    masks = list(clip.masks[:count]) if clip.masks is not None else [None]
    found = [mask > 0 for mask in masks if mask is not None]
    if len(found) < count:
        raise InputError(f"sequence {clip.name} is not annotated in its first {count} frames")
    return MiniSequence(list(clip.frames[:count]), found)
