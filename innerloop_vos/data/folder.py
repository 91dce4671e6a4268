"""The user's own clips."""

from collections.abc import Iterable
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos.data.sequence import SequenceFolders
from innerloop_vos.io.frames import natural_order


class FolderDataset(SequenceFolders):
    """The user's own clips, in the layout of YouTube-VOS.

    Frames are `JPEGImages/SEQ/*.jpg` (or PNG) and masks `Annotations/SEQ/*.png`, named like
    their frames. Any frame may lack a mask, and an object may first appear in a later one; a clip
    without a folder of masks, or a data set without `Annotations`, is not annotated.

    Args:
        root: the folder that holds `JPEGImages` and, where there are masks, `Annotations`.
        sequences: names of clips to take instead of all of them in order of their names.

    Raises:
        InputError: the folder has another layout, holds no clip, or lacks a named one.
    """

    def __init__(self, root: str | Path, sequences: Iterable[str] | None = None) -> None:
        frames_root = Path(root) / "JPEGImages"
        if not frames_root.is_dir():
            raise InputError(
                f"{root} should hold JPEGImages/SEQ/*.jpg (and Annotations/SEQ/*.png), "
                f"but there is no {frames_root}"
            )
        if sequences is None:
            folders = natural_order(path for path in frames_root.iterdir() if path.is_dir())
            sequences = [path.name for path in folders]
        super().__init__(sequences, frames_root, Path(root) / "Annotations")
        if not self.names:
            raise InputError(f"{frames_root} holds no folder of frames")
