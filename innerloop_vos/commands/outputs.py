"""The check that no command writes over what it reads."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from innerloop_vos.errors import InputError

Paths = Mapping[str, Iterable[str | Path | None]]


def check_outputs(outputs: Paths, inputs: Paths, trees: Paths | None = None) -> None:
    """Check, before any work, that no output is an input, through links of both kinds too.

    Args:
        outputs: Files and folders to be written, by the option that names them; None is left out.
            Links in a folder that is there already count as outputs too.
        inputs: Files and folders to be read, by the option that names them.
        trees: Folders to be read with all that is in them, such as those of a data set.

    Raises:
        InputError: An output is an input, or lies in one of the trees.
    """
    read = [(name, Path(path)) for name, paths in inputs.items() for path in paths if path]
    below = [(name, Path(path)) for name, paths in (trees or {}).items() for path in paths if path]
    for option, paths in outputs.items():
        for path in _written(paths):
            for name, source in read + below:
                if _same(path, source):
                    raise InputError(
                        f"{option}: {path} is read too, as {name}; choose another place"
                    )
            for name, folder in below:
                if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                    raise InputError(
                        f"{option}: {path} lies in {folder}, which is read as {name}; choose "
                        "another place"
                    )


def check_strays(option: str, folder: str | Path, names: Iterable[str], mask: str | None) -> None:
    """Check that masks of another clip will not be left among those of this one.

    Args:
        option: What names the folder.
        folder: The folder of masks, which need not exist.
        names: The names of the frames.
        mask: A file that may lie there, the first mask.

    Raises:
        InputError: It holds PNG files that are not named like a frame.
    """
    folder = Path(folder)
    given = {f"{name}.png" for name in names}
    stray = sorted(
        path.name
        for path in (folder.glob("*.png") if folder.is_dir() else ())
        if path.name not in given and not (mask and _same(path, Path(mask)))
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


def _same(one: Path, other: Path) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)
