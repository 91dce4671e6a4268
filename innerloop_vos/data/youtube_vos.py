"""YouTube-VOS in its original layout, and MOSE, which is laid out alike."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.data.sequence import Sequence, SequenceFolders
from innerloop_vos.io.frames import image_files, natural_order
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
        all_frames: take the frames between too, of `SPLIT_all_frames/JPEGImages`. Default False.

    Raises:
        InputError: the folder has another layout, or lacks a named sequence.

    Source:
        Xu et al., YouTube-VOS: Sequence-to-Sequence Video Object Segmentation, ECCV 2018.
    """

    scores_last = True
    archive = "Annotations"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        sequences: Iterable[str] | None = None,
        all_frames: bool = False,
    ) -> None:
        self.root, self.folder = Path(root), Path(root) / split
        frames = _checked(root, f"{split}_all_frames" if all_frames else split, "JPEGImages")
        masks = _checked(root, split, "Annotations")
        if sequences is None:
            sequences = sorted(_videos(self.folder / "meta.json"))
        super().__init__(sequences, frames, masks)

    def submitted(self, sequence: Sequence) -> list[str]:
        """Names of every fifth frame, whatever frames are looked at."""
        folder = self.folder / "JPEGImages" / sequence.name
        return [path.stem for path in image_files(folder)]

    def categories(self) -> dict[tuple[str, int], str]:
        """What the objects are, by sequence and id.

        Raises:
            InputError: `meta.json` is missing or damaged.
        """
        return dict(_categories(self.folder / "meta.json", self.names))

    def seen_categories(self) -> set[str]:
        """Categories in the sequences of `train` that are not among these.

        Raises:
            InputError: `train/meta.json` is missing or damaged.
        """
        path = self.root / "train" / "meta.json"
        others = set(_videos(path))
        if self.folder.name == "train":
            others -= set(self.names)
        return {category for _, category in _categories(path, others)}


class MoseDataset(SequenceFolders):
    """The sequences of a MOSE split: `valid/JPEGImages/SEQ/*.jpg`, `valid/Annotations/SEQ/*.png`.

    Args:
        root: the folder that holds the splits.
        split: `"train"`, `"valid"` ...
        sequences: names of sequences to take instead of all.

    Raises:
        InputError: the folder has another layout, or lacks a named sequence.

    Source:
        Ding et al., MOSE: A New Dataset for Video Object Segmentation in Complex Scenes, ICCV 2023.
    """

    def __init__(
        self, root: str | Path, split: str = "train", sequences: Iterable[str] | None = None
    ) -> None:
        frames = _checked(root, split, "JPEGImages", "MOSE")
        masks = _checked(root, split, "Annotations", "MOSE")
        if sequences is None:
            folders = natural_order(path for path in frames.iterdir() if path.is_dir())
            sequences = [path.name for path in folders]
        super().__init__(sequences, frames, masks)


def _checked(root: str | Path, split: str, part: str, kind: str = "YouTube-VOS") -> Path:
    folder = Path(root) / split / part
    if not folder.is_dir():
        raise InputError(f"{root} is not laid out as {kind}: there is no {split}/{part}")
    return folder


def _videos(path: Path) -> Mapping[str, Any]:
    """The sequences that a `meta.json` lists, with what it says of each."""
    if not path.exists():
        raise InputError(f"{path} is missing: it lists the sequences of YouTube-VOS")
    content = read_json(path, "YouTube-VOS")
    videos = content.get("videos") if isinstance(content, dict) else None
    if isinstance(videos, list) and all(isinstance(name, str) for name in videos):
        return dict.fromkeys(videos)
    if not isinstance(videos, dict):
        raise InputError(f"{path} is damaged: it should hold the sequences under 'videos'")
    return videos


def _categories(path: Path, names: Iterable[str]) -> Iterator[tuple[tuple[str, int], str]]:
    videos = _videos(path)
    for name in names:
        try:
            for id_, entry in videos[name]["objects"].items():
                yield (name, int(id_)), str(entry["category"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} does not say of what category the objects of {name} are"
            ) from error
