"""Masks in the archives that the servers of benchmarks take."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path


def write_submission(
    path: str | Path, results: Path, frames: Mapping[str, list[str]], top: str = ""
) -> None:
    """Pack masks, and read the archive back.

    Args:
        path: the file to write, which ends in `.zip`; whole or not at all.
        results: folder with the masks, `SEQ/FRAME.png`.
        frames: names of the frames whose masks are packed, by sequence.
        top: folder in the archive that holds those of the sequences. Default: none.

    Raises:
        InputError: the path ends otherwise, a mask is missing, or the archive cannot be written.
    """
    path = check_archive(path)
    files = {
        f"{top}/{name}/{frame}.png".lstrip("/"): results / name / f"{frame}.png"
        for name, names in frames.items()
        for frame in names
    }
    for source in files.values():
        if not source.is_file():
            raise InputError(f"--submission: {source} is missing")
    with atomic_path(path) as temporary:
        # The images are compressed already.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, source in files.items():
                archive.write(source, name)
        _check(temporary, files)


def check_archive(path: str | Path) -> Path:
    """Return the path of an archive; InputError if it does not end in `.zip`."""
    path = Path(path)
    if path.suffix.lower() != ".zip":
        raise InputError(f"--submission: {path}, should end in .zip")
    return path


def _check(path: Path, files: Mapping[str, Path]) -> None:
    """Compare an archive with what it was made of."""
    with zipfile.ZipFile(path) as archive:
        if archive.namelist() != list(files):
            raise InputError(f"--submission: {path} has other files than were written")
        for name, source in files.items():
            if archive.read(name) != source.read_bytes():
                raise InputError(f"--submission: {name} in {path} differs from {source}")
