"""The frames of a clip as a lazily read sequence, and the one that reads a folder of images."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from innerloop_vos.errors import InputError
from innerloop_vos.files import UNREADABLE, read_image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
IMAGE_RATE = 24.0
"""Frames per second of a folder of images, which says nothing of its rate: that of DAVIS."""


class Frames(Sequence[Tensor]):
    """The frames of one clip, read when asked for; iterating in order is the fast way.

    Attributes:
        names: The name of each frame, which its mask's file takes; for images the file's stem.
        size: Height and width in pixels, the same for every frame.
        rate: Frames per second.
    """

    names: list[str]
    size: tuple[int, int]
    rate: float

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """Read one frame, ``(3, H, W)`` uint8 RGB, or a list of them for a slice."""
        indices = range(len(self))[index]
        if isinstance(indices, range):
            return [self._read(i) for i in indices]
        return self._read(indices)

    @abstractmethod
    def _read(self, index: int) -> Tensor: ...


class ImageFrames(Frames):
    """Frames from image files, which are the same size and, if numbered, leave no gap.

    Args:
        paths: JPEG or PNG files, in order.
        rate: Frames per second.

    Raises:
        InputError: There are none; a header cannot be read; two files differ in size or share a
            name; or a number is missing.
    """

    def __init__(self, paths: Iterable[Path], rate: float = IMAGE_RATE) -> None:
        self.paths = list(paths)
        self.names = [path.stem for path in self.paths]
        self.size = _common_size(self.paths)
        self.rate = rate
        _check_names(self.paths)

    def _read(self, index: int) -> Tensor:
        path = self.paths[index]
        image = read_image(path)
        if image.mode.startswith(("I", "F")):
            raise InputError(f"frame {path} has mode {image.mode}; it should have 8 bits a channel")
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def image_files(folder: Path) -> list[Path]:
    """List the JPEG and PNG files of a folder in the natural order of their names.

    Args:
        folder: The folder; hidden files in it are left out.

    Returns:
        The files, ``frame2`` before ``frame10``.
    """
    return natural_order(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths by name with digits compared as numbers.

    Args:
        paths: Files, in any order.

    Returns:
        The same files, sorted.
    """

    def key(path: Path) -> tuple[list[str | int], str]:
        # Splitting on the digits alternates text and numbers, so that like is compared with like.
        parts = re.split(r"(\d+)", str(path))
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)

    return sorted(paths, key=key)


def _common_size(paths: Sequence[Path]) -> tuple[int, int]:
    size = None
    for path in paths:
        try:
            with Image.open(path) as image:  # reads the header only
                width, height = image.size
        except UNREADABLE as error:
            raise InputError(f"frame {path} is not a readable image: {error}") from error
        if size is None:
            size = height, width
        if size != (height, width):
            raise InputError(
                f"frames should all have one size, but {paths[0]} is {size[1]}x{size[0]} "
                f"(width x height) and {path} is {width}x{height}"
            )
    if size is None:
        raise InputError("there are no frames: the list of image files is empty")
    return size


def _check_names(paths: Sequence[Path]) -> None:
    stem, count = Counter(path.stem for path in paths).most_common(1)[0]
    if count > 1:
        twins = " and ".join(str(path) for path in paths if path.stem == stem)
        raise InputError(f"{twins} share the name {stem}, so their masks would too")
    names = [re.fullmatch(r"(.*?)(\d+)", path.stem) for path in paths]
    numbers = [match[2] for match in names if match]
    prefixes = {match[1] for match in names if match}
    zero_padded = len({len(number) for number in numbers}) == 1 and numbers[0].startswith("0")
    if len(numbers) < len(paths) or len(prefixes) > 1 or not zero_padded:
        return
    steps = [int(after) - int(before) for before, after in pairwise(numbers)]
    # Data sets that keep every fifth frame number them so; two frames alone show no such rule.
    regular = min(steps) if len(steps) > 1 else 1
    for before, after, step in zip(numbers, numbers[1:], steps, strict=False):
        if step != regular:
            name = f"{prefixes.pop()}{int(before) + regular:0{len(before)}d}{paths[0].suffix}"
            raise InputError(
                f"frame {paths[0].with_name(name)} is missing: {before} is followed by {after}"
            )
