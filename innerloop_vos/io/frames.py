"""The frames of a clip as a lazily read sequence, and the one for a folder of images."""

import re
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import open_image, read_image, upright_size

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = IMAGE_SUFFIXES | {".gif"}
IMAGE_NAMES = "JPEG, PNG, BMP, TIFF or WebP"
IMAGE_RATE = 24.0
"""Assumed frames per second of a folder of images, whose rate is unknown: that of DAVIS."""


class Frames(Sequence[Tensor]):
    """The frames of one clip, read on demand; iterating in order is fastest.

    Attributes:
        names: the name of each frame, which its mask's file takes; for images the file's stem.
        size: height and width in pixels, the same for every frame.
        rate: frames per second.
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
        """Read one frame, `(3, H, W)` uint8 RGB, or a list of them for a slice."""
        indices = range(len(self))[index]
        if isinstance(indices, range):
            return [self._read(i) for i in indices]
        return self._read(indices)

    @abstractmethod
    def _read(self, index: int) -> Tensor: ...


class ImageFrames(Frames):
    """Frames from image files of one size; warns if a number is missing between them.

    Args:
        paths: image files, in order.
        rate: frames per second.
        upright: turn each as its EXIF orientation says, as viewers do. Default True.

    Raises:
        InputError: there are none; a header cannot be read; or two files differ in size or share a
            name.
    """

    def __init__(
        self, paths: Iterable[Path], rate: float = IMAGE_RATE, *, upright: bool = True
    ) -> None:
        self.paths = list(paths)
        self.names = [path.stem for path in self.paths]
        self.upright = upright
        self.size = self._common_size()
        self.rate = rate
        check_names(self.paths)
        _warn_of_gaps(self.paths)

    def _read(self, index: int) -> Tensor:
        path = self.paths[index]
        image = read_image(path, upright=self.upright)
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"frame {path} has mode {image.mode}; it should have 8 bits per channel"
            )
        if (image.height, image.width) != self.size:
            raise InputError(f"frame {path} changed while it was read")
        try:
            colours = image.convert("RGB")
        except ValueError as error:
            raise InputError(f"frame {path} has mode {image.mode}, which has no colours") from error
        return torch.from_numpy(np.array(colours)).permute(2, 0, 1).contiguous()

    def _common_size(self) -> tuple[int, int]:
        size = None
        for path in self.paths:
            with open_image(path) as image:  # reads the header only
                width, height = upright_size(image) if self.upright else image.size
            if size is None:
                size = height, width
            if size != (height, width):
                raise InputError(
                    f"frames should all have one size, but {self.paths[0]} is {size[1]}x{size[0]} "
                    f"(width x height) and {path} is {width}x{height}"
                )
        if size is None:
            raise InputError("there are no frames: the list of image files is empty")
        return size


def folder_frames(folder: Path, without: Iterable[Path] = ()) -> list[Path]:
    """List the frames of a folder.

    Args:
        folder: the folder. Hidden files in it are left out, and so are files of other kinds.
        without: files among them that are no frames, such as their masks.

    Returns:
        The frames in the natural order of their names.

    Raises:
        InputError: there are none, or an image among them may not be a frame: it has no number
            where the others have one, or another format and another form of name.
    """
    paths = leave_out(image_files(folder), without)
    if not paths:
        raise InputError(f"folder {folder} holds no {IMAGE_NAMES} image")
    check_names(paths)
    forms = Counter(_form(path) for path in paths)
    usual = forms.most_common(1)[0][0]
    for path in paths:
        name, suffix = _form(path)
        unnumbered = "#" in usual[0] and "#" not in name
        if unnumbered or (name != usual[0] and suffix != usual[1]):
            raise InputError(
                f"folder {folder} holds {path.name} among frames that are named differently; if it "
                f"is one of them, give the frames as a glob, such as '{folder}/*', or move it away"
            )
    return paths


def leave_out(paths: Iterable[Path], files: Iterable[Path]) -> list[Path]:
    """Return the paths that do not lead to one of the files."""
    others = {_identity(file) for file in files if file.exists()}
    return [path for path in paths if not (path.exists() and _identity(path) in others)]


def _identity(path: Path) -> tuple[int, int]:
    """What is the same for all paths to a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _form(path: Path) -> tuple[str, str]:
    """The name of a file with every number replaced, and its format."""
    suffix = path.suffix.lower()
    same = {".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)
    return re.sub(r"\d+", "#", path.stem), same


def image_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[Path]:
    """List the images of a folder in the natural order of their names.

    Args:
        folder: the folder; hidden files in it are left out.
        suffixes: the suffixes of the files.

    Returns:
        The files, `frame2` before `frame10`.
    """
    return natural_order(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths by name with digits compared as numbers.

    Args:
        paths: files, in any order.

    Returns:
        The same files, sorted.
    """

    def key(path: Path) -> tuple[list[str | int], str]:
        # Splitting at the digits alternates text and numbers, so text is never compared with a
        # number.
        parts = re.split(r"(\d+)", str(path))
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)

    return sorted(paths, key=key)


def check_names(paths: Sequence[Path]) -> None:
    """Check that no two files have the same name apart from the suffix, as masks must not.

    Args:
        paths: the files.

    Raises:
        InputError: two share a name.
    """
    for stem, count in Counter(path.stem for path in paths).most_common(1):
        if count > 1:
            twins = " and ".join(str(path) for path in paths if path.stem == stem)
            raise InputError(f"{twins} share the name {stem}; remove one, or give it another name")


def _warn_of_gaps(paths: Sequence[Path]) -> None:
    names = [re.fullmatch(r"(.*?)(\d+)", path.stem) for path in paths]
    numbers = [match[2] for match in names if match]
    prefixes = {match[1] for match in names if match}
    zero_padded = len({len(number) for number in numbers}) == 1 and numbers[0].startswith("0")
    if len(numbers) < len(paths) or len(prefixes) > 1 or not zero_padded:
        return
    steps = [int(after) - int(before) for before, after in pairwise(numbers)]
    # Data sets that keep every fifth frame number them so; two frames alone show no rule.
    regular = min(steps) if len(steps) > 1 else 1
    for before, after, step in zip(numbers, numbers[1:], steps, strict=False):
        if step != regular:
            name = f"{prefixes.pop()}{int(before) + regular:0{len(before)}d}{paths[0].suffix}"
            warnings.warn(
                f"frame {paths[0].with_name(name)} may be missing: {before} is followed by {after}",
                stacklevel=4,
            )
            return
