"""What the user says of objects on the command line: masks and boxes, of any frame."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.frames import MASK_SUFFIXES, Frames, image_files
from innerloop_vos.io.masks import box_to_mask, check_mask, parse_box, read_mask
from innerloop_vos.segmenter import Segmenter

Box = tuple[int, int, int, int]


def mask_files(words: Iterable[str]) -> list[Path]:
    """List the files that `--mask` or `--correct` names, in each of its forms."""
    files: list[Path] = []
    for word in words:
        path = Path(_split(word)[1])
        files += image_files(path, MASK_SUFFIXES) if path.is_dir() else [path]
    return files


def read_masks(
    words: Sequence[str], frames: Frames, *, threshold: int | None, binary: bool
) -> dict[int, Tensor]:
    """Read the masks that `--mask` names.

    Args:
        words: each FILE, of the first frame; NAME=FILE, of the frame of that name; or FOLDER, whose
            files are named like their frames, as in a data set: of an object that they show several
            times, the first counts.
        frames: the clip.
        threshold, binary: as of `read_mask`.

    Returns:
        Object ids, shape (H, W), uint8, by the index of the frame.

    Raises:
        InputError: a frame is unknown or has two masks, a mask does not fit it, or a FILE holds no
            object that the masks of earlier frames do not hold.
    """
    read: dict[int, tuple[str | None, Tensor]] = {}
    for word in words:
        for index, path, required in _placed(word, frames):
            if index in read:
                raise InputError(f"--mask: frame {frames.names[index]} is given two masks")
            mask = read_mask(path, threshold=threshold, binary=binary)
            if required or mask.any():
                check_mask(mask, frames.size, str(path))
                read[index] = word if required else None, mask
    known: set[int] = {0}
    found: dict[int, Tensor] = {}
    for index, (file, mask) in sorted(read.items()):
        ids = set(mask.unique().tolist())  # type: ignore[no-untyped-call]
        if ids - known:
            found[index] = mask
            known |= ids
        elif file is not None:
            raise InputError(
                f"--mask {file}: it holds no object but {sorted(ids - {0})}, which earlier frames "
                "show; give new objects other ids, or correct known ones with --correct"
            )
    if words and not found:
        raise InputError("--mask: no mask shows an object")
    return found


def read_corrections(
    words: Sequence[str],
    frames: Frames,
    starts: Iterable[int],
    *,
    threshold: int | None,
    binary: bool,
    backwards: bool,
) -> dict[int, Tensor]:
    """Read the masks that `--correct` names.

    Args:
        words: each NAME=FILE: all objects that are visible in the frame of that name.
        frames: the clip.
        starts: the frames of which masks or boxes are given.
        threshold, binary: as of `read_mask`.
        backwards: whether the frames before the first of `starts` are segmented too.

    Returns:
        Object ids, shape (H, W), uint8, by the index of the frame.

    Raises:
        InputError: a frame is unknown, has another mask or a box too, or is not segmented; or a
            mask does not fit it.
    """
    starts = set(starts)
    found: dict[int, Tensor] = {}
    for word in words:
        name, path = _split(word)
        if name is None:
            raise InputError(f"--correct: {word}, should be NAME=FILE, where NAME is a frame's")
        index = _index(name, frames, f"--correct {word}")
        if index in found:
            raise InputError(f"--correct: frame {frames.names[index]} is given two masks")
        if index in starts:
            raise InputError(
                f"--correct {word}: this frame has a mask or a box already; give it one mask, of "
                "all objects"
            )
        if index < min(starts) and not backwards:
            raise InputError(
                f"--correct {word}: frames before the first mask or box are segmented with "
                "--backwards only"
            )
        found[index] = read_mask(path, threshold=threshold, binary=binary)
        check_mask(found[index], frames.size, path, empty=True)
    return found


def _placed(word: str, frames: Frames) -> list[tuple[int, Path, bool]]:
    """The masks that a word names: index of the frame, file, and whether it has to be of use."""
    name, rest = _split(word)
    path = Path(rest)
    if name is not None:
        return [(_index(name, frames, f"--mask {word}"), path, True)]
    if not path.is_dir():
        return [(0, path, True)]
    files = image_files(path, MASK_SUFFIXES)
    if not files:
        raise InputError(f"--mask: {path} holds no mask")
    return [(_index(file.stem, frames, f"--mask: {file}"), file, False) for file in files]


def parse_boxes(words: Iterable[str], frames: Frames) -> dict[int, dict[int, Box]]:
    """Read the boxes that `--box` gives.

    Args:
        words: each X,Y,W,H in pixels of the first frame, or NAME=X,Y,W,H in those of another;
            objects 1, 2 ...
        frames: the clip.

    Returns:
        Boxes by object id, by the index of the frame.

    Raises:
        InputError: a frame is unknown, or a box is none or lies outside.
    """
    found: dict[int, dict[int, Box]] = {}
    for id_, word in enumerate(words, start=1):
        name, equals, box = word.rpartition("=")
        index = _index(name, frames, f"--box {word}") if equals else 0
        found.setdefault(index, {})[id_] = parse_box(box)
        box_to_mask(found[index][id_], frames.size)
    return found


def masks_of_boxes(
    segmenter: Segmenter, frames: Frames, boxes: Mapping[int, Mapping[int, Box]]
) -> dict[int, Tensor]:
    """Find the masks of objects in boxes.

    Args:
        segmenter: the method.
        frames: the clip.
        boxes: as `parse_boxes` returns them; where two share pixels, the later has them.

    Returns:
        As `read_masks`.

    Raises:
        InputError: nothing is left of an object.
    """
    return {index: _masks(segmenter, frames[index], named) for index, named in boxes.items()}


def _masks(segmenter: Segmenter, frame: Tensor, boxes: Mapping[int, Box]) -> Tensor:
    labels = torch.zeros(frame.shape[1:], dtype=torch.uint8)
    for id_, box in boxes.items():
        labels[segmenter.mask_from_box(frame, box) > 0] = id_
    for id_, box in boxes.items():
        if not (labels == id_).any():
            raise InputError(
                f"--box {','.join(map(str, box))}: no object of its own was found in this box"
            )
    return labels


def _split(word: str) -> tuple[str | None, str]:
    """The name of a frame, if there is one, and a path, which may hold "=" itself."""
    name, equals, rest = word.partition("=")
    return (name, rest) if equals and not Path(word).exists() else (None, word)


def _index(name: str, frames: Frames, what: str) -> int:
    stem = Path(name).stem if Path(name).suffix.lower() in MASK_SUFFIXES else name
    names: Sequence[str] = frames.names
    if stem not in names:
        raise InputError(f"{what}: there is no frame {stem!r}; they are {names[0]} to {names[-1]}")
    return names.index(stem)
