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
from innerloop_vos.unsupervised import UnsupervisedSegmenter


def segment_frames(
    segmenter: Segmenter, frames: Frames, given: Mapping[int, Tensor], *, from_boxes: bool = False
) -> Iterator[Tensor]:
    """Segment a clip frame by frame.

    Args:
        segmenter: the method.
        frames: the clip.
        given: masks that the user drew, object ids of shape (H, W), uint8, by frame index; frames
            before the first of them have no object.
        from_boxes: whether they were found in boxes. Default False.

    Yields:
        Object ids of every frame, shape (H, W), uint8.
    """
    for index in range(len(frames)):
        yield segment_next(segmenter, frames, given, index, from_boxes=from_boxes)


def find_objects(segmenter: UnsupervisedSegmenter, frames: Frames) -> Iterator[Tensor]:
    """Find the objects of a clip, frame by frame.

    Args:
        segmenter: the method.
        frames: the clip.

    Yields:
        Object ids of every frame, shape (H, W), uint8.
    """
    segmenter.start(frames)
    for frame in frames:
        yield segmenter.step(frame)


def frame_order(count: int, first: int, *, backwards: bool) -> list[int]:
    """The order in which the frames of a clip are segmented.

    Args:
        count: number of frames.
        first: index of the first that a mask is given of.
        backwards: whether those before it come last, backwards; else all are in their order.
    """
    if not backwards:
        return list(range(count))
    return [*range(first, count), *reversed(range(first))]


def segment_next(
    segmenter: Segmenter,
    frames: Frames,
    given: Mapping[int, Tensor],
    index: int,
    *,
    corrections: Mapping[int, Tensor] | None = None,
    from_boxes: bool = False,
    backwards: bool = False,
) -> Tensor:
    """Segment the next frame in the order of `frame_order`.

    Args:
        segmenter: has seen the frames before.
        frames, given, from_boxes: as of `segment_frames`.
        index: of the frame.
        corrections: true masks of all objects, by frame index; none of those in `given`. Default:
            none.
        backwards: as of `frame_order`. Default False.

    Returns:
        Object ids, shape (H, W), uint8.
    """
    first = min(given)
    if index == first:
        return segmenter.start(frames[index], given[first], from_boxes=from_boxes)
    if index < first and not backwards:
        return torch.zeros(frames.size, dtype=torch.uint8)
    if index == first - 1:  # from there, in the other direction
        segmenter.start(frames[first], given[first], from_boxes=from_boxes)
    if corrections and index in corrections:
        return segmenter.correct(frames[index], corrections[index])
    return segmenter.step(frames[index], given.get(index))


def write_masks(folder: Path, names: list[str], labels: Iterator[Tensor]) -> None:
    """Write one palette PNG a frame, `folder/NAME.png`; all of them, or none if one fails."""
    with atomic_folder(folder) as temporary:
        for name, mask in zip(names, labels, strict=True):
            write_mask(temporary / f"{name}.png", mask)


def overlays(frames: Frames, folder: Path) -> Iterator[Tensor]:
    """Draw the masks in `folder` over their frames: pictures of shape (3, H, W), uint8."""
    for name, frame in zip(frames.names, frames, strict=True):
        yield overlay(frame, read_mask(folder / f"{name}.png"))
