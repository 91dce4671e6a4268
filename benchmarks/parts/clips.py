"""Annotated clips at a low resolution, kept in memory, so that small trainings read no files."""

import collections.abc

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from innerloop.errors import InputError
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.io.frames import Frames


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


class SmallClips(collections.abc.Sequence[Clip]):
    """Clips that are shrunk when first asked for, and then kept.

    Args:
        clips: the clips; all their frames are annotated.
        height: height of the frames in pixels; the aspect ratio is kept.
        every: keep every such frame, from the first.
    """

    def __init__(self, clips: collections.abc.Sequence[Clip], height: int, every: int) -> None:
        self.clips, self.height, self.every = clips, height, every
        self._kept: dict[int, Clip] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:  # type: ignore[override]
        if index not in self._kept:
            self._kept[index] = self._shrink(self.clips[index])
        return self._kept[index]

    def _shrink(self, clip: Clip) -> Clip:
        rows, columns = clip.frames.size
        size = [self.height, round(self.height * columns / rows)]
        chosen = slice(0, None, self.every)
        frames = [TF.resize(frame, size, antialias=True) for frame in clip.frames[chosen]]
        masks = []
        for mask in (clip.masks or [])[chosen]:
            if mask is None:
                raise InputError(f"sequence {clip.name} is not annotated in all frames")
            masks.append(TF.resize(mask[None], size, TF.InterpolationMode.NEAREST)[0])
        return Clip(clip.name, MemoryFrames(torch.stack(frames), clip.frames.names[chosen]), masks)
