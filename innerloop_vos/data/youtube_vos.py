"""YouTube-VOS in its original layout."""

from collections.abc import Iterable
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos.data.sequence import SequenceFolders
from innerloop_vos.io.inputs import read_json


class YouTubeVOSDataset(SequenceFolders):
    """The sequences of a YouTube-VOS split.

    The layout is the original one: `train/JPEGImages/SEQ/00005.jpg`,
    `train/Annotations/SEQ/00005.png` and `train/meta.json`. `train` has every fifth frame,
    annotated; in `valid` only the first frame of each object is annotated.

    Args:
        root: the folder that holds the splits.
        split: `"train"`, `"valid"` ...
        sequences: names of sequences to take instead of all in `meta.json`, such as the part of
            `train` that a method was trained on.

    Raises:
        InputError: the folder has another layout, or lacks a named sequence.

    Source:
        Xu et al., YouTube-VOS: Sequence-to-Sequence Video Object Segmentation, ECCV 2018.
    """

    def __init__(
        self, root: str | Path, split: str = "train", sequences: Iterable[str] | None = None
    ) -> None:
        folder = Path(root) / split
        for part in ("JPEGImages", "Annotations"):
            if not (folder / part).is_dir():
                raise InputError(
                    f"{root} is not laid out as YouTube-VOS: there is no {split}/{part}"
                )
        if sequences is None:
            sequences = _listed(folder / "meta.json")
        super().__init__(sequences, folder / "JPEGImages", folder / "Annotations")


def _listed(path: Path) -> list[str]:
    if not path.exists():
        raise InputError(f"{path} is missing: it lists the sequences of YouTube-VOS")
    content = read_json(path, "YouTube-VOS")
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict | list) or not all(isinstance(name, str) for name in videos):
        raise InputError(f"{path} is damaged: it should hold the sequences under 'videos'")
    return sorted(videos)
