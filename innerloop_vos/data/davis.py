"""DAVIS 2016 and 2017 in their original layout."""

from collections.abc import Iterable
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos.data.sequence import SequenceFolders


class DavisDataset(SequenceFolders):
    """The sequences of a DAVIS split.

    The layout is the original one: `JPEGImages/480p/SEQ/00000.jpg`,
    `Annotations/480p/SEQ/00000.png` and `ImageSets/2017/val.txt`, where the split's list may
    also be in `ImageSets/480p`. A line of a list names a sequence or, as in 2016, the two files
    of a frame.

    Args:
        root: the folder that holds `JPEGImages`, `Annotations` and `ImageSets`.
        year: 2016, where every annotated pixel belongs to object 1, or 2017, where objects have
            ids.
        split: the name of a list in `ImageSets`: `"train"`, `"val"`, `"test-dev"` ...
        sequences: names of sequences to take instead of a split's.
        resolution: `"480p"`, `"1080p"` or `"Full-Resolution"`.

    Raises:
        InputError: the folder has another layout; there is no such year, split or sequence.

    Source:
        Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object
        Segmentation, CVPR 2016; Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object
        Segmentation, arXiv:1704.00675.
    """

    def __init__(
        self,
        root: str | Path,
        year: int = 2016,
        split: str = "val",
        sequences: Iterable[str] | None = None,
        resolution: str = "480p",
    ) -> None:
        root = Path(root)
        if year not in (2016, 2017):
            raise InputError(f"year should be 2016 or 2017, got {year!r}")
        for part in ("JPEGImages", "Annotations"):
            if not (root / part / resolution).is_dir():
                raise InputError(
                    f"{root} is not laid out as DAVIS: there is no {part}/{resolution}"
                )
        if sequences is None:
            folders = [root / "ImageSets" / str(year), root / "ImageSets" / resolution]
            sequences = _read_list(folders, split)
        super().__init__(
            sequences,
            frames_root=root / "JPEGImages" / resolution,
            masks_root=root / "Annotations" / resolution,
            single_object=year == 2016,
        )
        for name in self.names:
            if not (self.masks_root / name).is_dir():
                raise InputError(
                    f"sequence {name!r} has no masks: there is no folder {self.masks_root / name}"
                )


def _read_list(folders: list[Path], split: str) -> list[str]:
    lists = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.txt")}
    if split not in lists:
        found = ", ".join(sorted(lists)) or "none"
        where = " or ".join(str(folder) for folder in folders)
        raise InputError(f"unknown split {split!r}: the lists in {where} are {found}")
    names: dict[str, None] = {}  # in order, each once
    for line in _read_text(lists[split]).splitlines():
        if entry := line.split():
            path = Path(entry[0])
            names[path.parent.name if "/" in entry[0] else path.name] = None
    if not names:
        raise InputError(f"{lists[split]} names no sequence")
    return list(names)


def _read_text(path: Path) -> str:
    if not path.is_file():  # opening a pipe would wait
        raise InputError(f"{path} is not a file")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a list of sequences: {error}") from None
