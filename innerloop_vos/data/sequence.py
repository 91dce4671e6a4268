"""One annotated clip, and the data sets that keep clips as folders of images."""

import collections.abc
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import overload

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.frames import MASK_SUFFIXES, Frames, check_names, image_files
from innerloop_vos.io.masks import read_mask
from innerloop_vos.io.video import open_frames

_LONGEST = 255  # max bytes of a name on the usual file systems


class Annotations(collections.abc.Sequence[Tensor | None]):
    """The masks of a clip, one entry per frame, read on demand.

    An entry is a map of object ids, `(H, W)` uint8, or None where the frame is not annotated.

    Args:
        folder: the folder of PNG or other images, each named like its frame.
        frames: the frames they belong to.
        single_object: whether every nonzero id means object 1.

    Raises:
        InputError: a file has no frame of its name, or two have the same; on reading, a file cannot
            be read or has another size than the frames.
    """

    def __init__(self, folder: Path, frames: Frames, single_object: bool = False) -> None:
        self.paths = image_files(folder, MASK_SUFFIXES)
        self.frames = frames
        self.single_object = single_object
        check_names(self.paths)
        self._paths = {path.stem: path for path in self.paths}
        if stray := sorted(self._paths.keys() - set(frames.names)):
            raise InputError(f"{self._paths[stray[0]]} has no frame: {stray[0]} is missing")

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Tensor | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor | None]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor | None] | None:
        names = self.frames.names[index]
        if isinstance(names, list):
            return [self._read(name) for name in names]
        return self._read(names)

    @property
    def annotated(self) -> list[int]:
        """The indices of the frames that have a mask, without reading one."""
        return [i for i, name in enumerate(self.frames.names) if name in self._paths]

    def _read(self, name: str) -> Tensor | None:
        if name not in self._paths:
            return None
        path = self._paths[name]
        labels = read_mask(path)
        height, width = self.frames.size
        if labels.shape != (height, width):
            raise InputError(
                f"mask {path} is {labels.shape[1]}x{labels.shape[0]} pixels (width x height), "
                f"but its frame is {width}x{height}"
            )
        return (labels > 0).to(torch.uint8) if self.single_object else labels


def annotated(masks: collections.abc.Sequence[Tensor | None] | None) -> list[int]:
    """List the frames that have a mask, without reading any mask of `Annotations`."""
    if isinstance(masks, Annotations):
        return masks.annotated
    return [index for index, mask in enumerate(masks or ()) if mask is not None]


def check_name(name: object) -> str:
    """Check the name of a sequence, as given by lists and files of others.

    It becomes part of paths that are written to, so it must not lead out of their folder.

    Args:
        name: the name, which should be a single part of a path on any system.

    Returns:
        The name.

    Raises:
        InputError: the name is something else.
    """
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath))
        or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        or len(name.encode()) > _LONGEST
    ):
        shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:77]}..."
        raise InputError(
            f"sequence {shown}: the name should be that of one folder, without slashes, "
            "backslashes, '..' and control characters"
        )
    return name


@dataclass(frozen=True)
class Sequence:
    """One clip with its annotations.

    Attributes:
        name: the clip's name in its data set.
        frames: its frames.
        masks: its annotations, one entry per frame, or None if it has none at all.
    """

    name: str
    frames: Frames
    masks: collections.abc.Sequence[Tensor | None] | None

    def given(self) -> dict[int, Tensor]:
        """What a method is given: of each object, the mask in the first frame that shows it.

        Returns:
            Ids of the objects that are new in a frame, shape (H, W), uint8, by its index.

        Raises:
            InputError: no frame shows an object.
        """
        found = {t: new for t, new, _ in self._annotations() if new.any()}
        if not found:
            raise InputError(f"sequence {self.name} has no annotation that shows an object")
        return found

    def has_truth(self) -> bool:
        """Whether there is more than what a method is given, so that masks can be scored."""
        started = False
        for _, new, old in self._annotations():
            if old or (started and not new.any()):
                return True
            started = started or bool(new.any())
        return False

    def _annotations(self) -> Iterator[tuple[int, Tensor, bool]]:
        """Annotated frames: index, ids that are new there, and whether others are shown."""
        known = torch.zeros(256, dtype=torch.bool)
        for index in annotated(self.masks):
            labels = self.masks[index] if self.masks is not None else None
            assert labels is not None  # only annotated frames are asked for
            there = labels.flatten().bincount(minlength=256) > 0
            there[0] = False
            yield index, labels.masked_fill(known[labels.long()], 0), bool((there & known).any())
            known |= there


class SequenceFolders(collections.abc.Sequence[Sequence]):
    """Clips stored as `frames_root/NAME/*.jpg` with masks in `masks_root/NAME/*.png`.

    Args:
        names: the clips' names, in order.
        frames_root: the folder with a folder of frames for each clip.
        masks_root: the folder with a folder of masks for each clip.
        single_object: whether every nonzero id in a mask means object 1.

    Attributes:
        scores_last: whether the last frame of a clip is scored; DAVIS leaves it out.
        archive: folder of the masks in a submission to the benchmark's server, such as
            "Annotations"; "" for none.

    Raises:
        InputError: a name is not that of a folder, or a clip has no folder of frames.
    """

    scores_last = False
    archive = ""

    def __init__(
        self,
        names: collections.abc.Iterable[str],
        frames_root: Path,
        masks_root: Path,
        single_object: bool = False,
    ) -> None:
        self.names = list(dict.fromkeys(map(check_name, names)))
        self.frames_root = frames_root
        self.masks_root = masks_root
        self.single_object = single_object
        for name in self.names:
            if not (frames_root / name).is_dir():
                raise InputError(
                    f"sequence {name!r} is missing: there is no folder {frames_root / name}"
                )

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int | str) -> Sequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence]: ...
    def __getitem__(self, index: int | str | slice) -> Sequence | list[Sequence]:
        """Open the clip at an index or of a name; for a slice, a list of clips."""
        if isinstance(index, slice):
            return [self._open(name) for name in self.names[index]]
        if isinstance(index, int):
            return self._open(self.names[index])
        if index not in self.names:
            raise InputError(f"unknown sequence {index!r}; there are {', '.join(self.names)}")
        return self._open(index)

    def __iter__(self) -> Iterator[Sequence]:
        return map(self._open, self.names)

    @property
    def folders(self) -> list[Path]:
        """The folders that hold the clips, and may hold lists of them; no results belong there."""
        return list(dict.fromkeys([self.frames_root.parent, self.masks_root.parent]))

    def submitted(self, sequence: Sequence) -> list[str]:
        """Names of the frames whose masks the benchmark's server takes. Default: all."""
        return sequence.frames.names

    def _open(self, name: str) -> Sequence:
        frames = open_frames(self.frames_root / name)
        masks = self.masks_root / name
        return Sequence(
            name,
            frames,
            Annotations(masks, frames, self.single_object) if masks.is_dir() else None,
        )
