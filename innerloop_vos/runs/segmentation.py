"""Running a segmenter over a clip and keeping what it finds."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from innerloop_vos.io.drawing import overlay
from innerloop_vos.io.files import atomic_folder
from innerloop_vos.io.frames import Frames
from innerloop_vos.io.masks import read_mask, write_mask
from innerloop_vos.segmenter import Segmenter


def segment_frames(
    segmenter: Segmenter, frames: Frames, given: Mapping[int, Tensor], *, from_boxes: bool = False
) -> Iterator[Tensor]:
    """Segment a clip frame by frame.

    Args:
        segmenter: the method.
        frames: the clip.
        given: masks that the user drew, object ids of shape (H, W), uint8, by frame index; frames
            before the first of them have no object.
        from_boxes: whether the first of them were found in boxes. Default False.

    Yields:
        Object ids of every frame, shape (H, W), uint8.
    """
    first = min(given)
    for index, frame in enumerate(frames):
        if index < first:
            yield torch.zeros(frames.size, dtype=torch.uint8)
        elif index == first:
            yield segmenter.start(frame, given[index], from_boxes=from_boxes)
        else:
            yield segmenter.step(frame, given.get(index))


def write_masks(folder: Path, names: list[str], labels: Iterator[Tensor]) -> None:
    """Write one palette PNG a frame, `folder/NAME.png`; all of them, or none if one fails."""
    with atomic_folder(folder) as temporary:
        for name, mask in zip(names, labels, strict=True):
            write_mask(temporary / f"{name}.png", mask)


def overlays(frames: Frames, folder: Path) -> Iterator[Tensor]:
    """Draw the masks in `folder` over their frames: pictures of shape (3, H, W), uint8."""
    for name, frame in zip(frames.names, frames, strict=True):
        yield overlay(frame, read_mask(folder / f"{name}.png"))
