"""The check that no command writes over what it reads."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos.io.files import prepare_output

Paths = Mapping[str, Iterable[str | Path | None]]
Identity = tuple[int, int] | str

_PARTS = ("JPEGImages", "Annotations", "ImageSets", "train", "annotations", "train2017")


def check_outputs(outputs: Paths, inputs: Paths, trees: Paths | None = None) -> None:
    """Check, before any work, that no output is an input, through links of both kinds too.

    Args:
        outputs: files and folders to be written, by the option that names them; None is left out.
            Links in a folder that is there already count as outputs too.
        inputs: files and folders to be read, by the option that names them.
        trees: folders to be read with all that is in them, such as those of a data set.

    Raises:
        InputError: an output is an input, or lies in one of the trees.
    """
    read = {_identity(path): name for name, paths in inputs.items() for path in paths if path}
    places: dict[str, str] = {}
    for name, folders in (trees or {}).items():
        for folder in folders:
            if folder:
                found, files = _content(folder)
                places |= dict.fromkeys(found, name)
                read |= dict.fromkeys(files, name)
    for option, paths in outputs.items():
        for path in _written(paths):
            if source := read.get(_identity(path)):
                raise InputError(f"{option}: {path} is read too, as {source}; choose another place")
            real = Path(os.path.realpath(path))
            for parent in (real, *real.parents):
                if source := places.get(str(parent)):
                    raise InputError(
                        f"{option}: {path} lies in {parent}, which is read as {source}; choose "
                        "another place"
                    )


def prepare_folders(files: Iterable[str | Path | None]) -> None:
    """Make the folders of files that are written last, so that their absence loses no work.

    Raises:
        InputError: one cannot be made or written to.
    """
    for file in files:
        if file:
            prepare_output(Path(file).parent)


def data_folders(roots: str | Path | Sequence[str] | None) -> list[Path]:
    """List the folders of data sets, in all layouts, beside which results may lie."""
    several = [roots] if isinstance(roots, str | Path) else roots or ()
    return [Path(root, part) for root in several for part in _PARTS]


def check_strays(
    option: str, folder: str | Path, names: Iterable[str], masks: Iterable[Path]
) -> None:
    """Check that masks of another clip will not be left among those of this one.

    Args:
        option: what names the folder.
        folder: the folder of masks, which need not exist.
        names: the names of the frames.
        masks: files that may lie there, those that are given.

    Raises:
        InputError: it holds PNG files that are not named like a frame.
    """
    folder = Path(folder)
    given, known = {f"{name}.png" for name in names}, {_identity(mask) for mask in masks}
    stray = sorted(
        path.name
        for path in (folder.glob("*.png") if folder.is_dir() else ())
        if path.name not in given and _identity(path) not in known
    )
    if stray:
        raise InputError(
            f"{option}: {folder} holds {len(stray)} other images, such as {stray[0]}, which this "
            "clip has no frame for; choose another folder, or remove them"
        )


def _written(paths: Iterable[str | Path | None]) -> list[Path]:
    found = [Path(path) for path in paths if path]
    folders = [path for path in found if path.is_dir()]
    return found + [file for folder in folders for file in folder.iterdir() if file.is_symlink()]


def _content(folder: str | Path) -> tuple[set[str], set[Identity]]:
    """Where a folder and the links in it lead, and all files in it, none of which is opened."""
    places: set[str] = set()
    files: set[Identity] = set()
    ahead = [os.path.realpath(folder)]
    while ahead:
        place = ahead.pop()
        if place in places:
            continue
        places.add(place)
        with suppress(OSError), os.scandir(place) as entries:  # or it is a file that a link names
            device = os.stat(place).st_dev
            for entry in entries:
                if entry.is_symlink() or entry.is_dir():
                    ahead.append(os.path.realpath(entry.path))
                else:
                    files.add((device, entry.inode()))
    return places, files


def _identity(path: str | Path) -> Identity:
    """What is the same for all names of one file, or for all paths to where nothing is yet."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
