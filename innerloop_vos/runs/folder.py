"""Folders of runs that can be continued: by one process at a time, with the same settings."""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import innerloop
from innerloop.errors import InputError
from innerloop_vos.io.frames import MASK_SUFFIXES, Frames
from innerloop_vos.io.inputs import read_json

if sys.platform != "win32":
    import fcntl

_TEMPORARY = re.compile(r"\.(?P<stem>.+)-[0-9a-f]{32}(\.[^.]*)?|\.partial-.+")
_PATHS = ("weights", "init", "init_heads", "teacher", "backbone_weights")
_FOLDERS = ("root", "davis", "youtube_vos", "clips", "coco")
_NOT_OF_THE_RUN = ("run", "out", "config", "resume", "tensorboard", "every", "csv", "json")
_SOME = 4096
"""Bytes of a file's head and tail that identify a file of a large data set."""

Record = dict[str, Any]
"""What a run was started with, in JSON: options by name, data and weights by digest."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of an existing folder while the block runs.

    Unfinished files of a killed process are removed from it. The lock is not a file, and ends with
    the process, however that ends. A file system without locks is not locked.

    Raises:
        InputError: another process is using the folder.
    """
    handle = _lock(folder)
    try:
        sweep(folder)
        yield
        sweep(folder)  # a signal may have come in the middle of cleaning up
    finally:
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"--out: another process is writing to {folder}; wait for its end, or use another "
            "folder"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def sweep(folder: Path, stem: str | None = None) -> None:
    """Remove the temporary files and folders that a killed process left in a folder.

    Args:
        folder: folder to search, without its subfolders.
        stem: only temporary files for this name, without the suffix. Default: all.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or stem not in (None, match["stem"]):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def describe(arguments: argparse.Namespace, *, without: Iterable[str] = ()) -> Record:
    """Record what a command was started with.

    Files and data sets count by content, wherever they are stored. Options that say where results
    go, or how often they are written, are left out.

    Args:
        arguments: the parsed command line.
        without: further options to leave out.

    Returns:
        The library's version and the options by their names.
    """
    record: Record = {"version": innerloop.__version__}
    for name, value in sorted(vars(arguments).items()):
        if name in _NOT_OF_THE_RUN or name in without or callable(value):
            continue
        if isinstance(value, str) and name in _PATHS and Path(value).is_file():
            value = digest([Path(value)])
        elif name in _FOLDERS:
            several = isinstance(value, list | tuple)
            folders = [_folder(each, arguments.out) for each in (value if several else [value])]
            value = folders if several else folders[0]
        elif name == "device":
            value = _device(value)
        record[name] = value
    known: Record = json.loads(json.dumps(record, default=str))
    return known


def _folder(path: str | None, out: str) -> str | None:
    """The digest of a folder of data; what is no folder, as it is."""
    if path is None or not Path(path).is_dir():
        return path
    return digest(_data(Path(path), Path(out)), whole=False)


def _device(name: str) -> str:
    """The kind of a device; one GPU is as good as another."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name.partition(":")[0]


def check_same(before: Any, now: Record, run: str) -> None:
    """Check that a run is continued with the same settings.

    Args:
        before: the record of the run.
        now: the record of this process.
        run: where the run is, for the message.

    Raises:
        InputError: the two differ; the message says in what.
    """
    if not isinstance(before, dict):
        raise InputError(f"{run} has a damaged record: it is a {type(before).__name__}")
    for name in sorted(before.keys() | now.keys(), key=str):
        was, is_ = before.get(name), now.get(name)
        if _text(was) == _text(is_):
            continue
        if name == "version":
            raise InputError(
                f"{run} holds a run of version {was}, whose numbers may differ from those of "
                f"{is_}; continue with that one (pip install innerloop=={was}), or use another "
                "folder"
            )
        raise InputError(
            f"{run} holds a run with {name} {_short(was)}, not {_short(is_)}; use another "
            "folder, or remove it"
        )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)  # 1 is neither True nor 1.0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def digest(paths: Iterable[Path], *, whole: bool = True) -> str:
    """Identify files by their names and contents.

    Args:
        paths: the files, in order.
        whole: read whole files; otherwise only their sizes, heads and tails, for data sets of many
            gigabytes. Default True.

    Returns:
        The SHA-256 of all, in hexadecimal.

    Raises:
        InputError: a file cannot be read.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            if not path.is_file():
                raise InputError(f"{path} is missing or is not a file")
            size = path.stat().st_size
            total.update(f"{path.name}\0{size}\0".encode(errors="surrogateescape"))
            with path.open("rb") as file:
                if whole or size <= 2 * _SOME:
                    total.update(hashlib.file_digest(file, "sha256").digest())
                else:
                    total.update(file.read(_SOME))
                    file.seek(-_SOME, os.SEEK_END)
                    total.update(file.read(_SOME))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return total.hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """A digest of the shape and the values of a tensor on the CPU."""
    values = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return text_digest([list(tensor.shape), values])


def text_digest(value: Any) -> str:
    """A digest of values in JSON, which shows whether one was changed."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def frames_digest(frames: Frames) -> str:
    """Identify the frames of a clip, images or a video, by their files' names and contents."""
    paths = getattr(frames, "paths", None) or [frames.path]  # type: ignore[attr-defined]
    return digest(paths)


def _data(root: Path, out: Path) -> Iterator[Path]:
    """The images and lists of a data set, without what a run writes inside it."""
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        inside = [name for name in subfolders if not name.startswith(".")]
        subfolders[:] = [n for n in inside if (Path(folder, n)).resolve() != out.resolve()]
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in {*MASK_SUFFIXES, ".json", ".txt"} and path.is_file():
                yield path


def read_record(path: Path, what: str) -> Mapping[str, Any]:
    """Read a JSON file of a run, which should hold an object.

    Args:
        path: the file.
        what: what the file should hold, for the message.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if path.is_symlink():  # a link leads out of the folder of the run
        raise InputError(f"{path} is a link; it should be a file")
    document = read_json(path, what)
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no {what}")
    return document
