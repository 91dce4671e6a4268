"""Reading and writing files: failures are named, and nothing is lost or left behind."""

import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from innerloop.errors import InputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_TO_STREAM = os.O_WRONLY | os.O_APPEND


def regular_file(path: str | Path, kind: str = "file") -> Path:
    """Check that a path leads to a regular file before it is opened.

    Opening a pipe waits for its writer, and a device may never end.

    Args:
        path: the file to read, or a link to it.
        kind: name of the file in the message, for example "image".

    Returns:
        The path.

    Raises:
        InputError: there is no file, or a folder, a pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"no such {kind}: {path}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{kind} {path} cannot be read: {error}") from None
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{kind} {path} is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}; "
            "it should be a regular file"
        )
    return Path(path)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path whose content `path` has once the block succeeds.

    A link is kept, and the file that it leads to gets the content. A replaced file keeps its
    permissions; other hard links to it keep the old content. A device or a pipe is written to.

    Args:
        path: the file to write. The temporary path has the same suffix, so that writers that choose
            a format by suffix choose the same one as for `path`.

    Yields:
        A path in the folder of the file, or in one for temporary files if the content goes to a
        device or a pipe. It is removed if the block raises.

    Raises:
        InputError: the operating system refused to write (folder missing, not writable, disk full).
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder")
    name = f".{path.stem}-{uuid.uuid4().hex}{path.suffix}"
    temporary: Path | None = None
    try:
        before = path.stat() if path.exists() else None
        if _is_stream(path, before):
            temporary = Path(tempfile.gettempdir(), name)
            yield temporary
            # Appending to the file that /dev/stdout may be keeps what was printed.
            with temporary.open("rb") as source, open(os.open(path, _TO_STREAM), "wb") as target:
                shutil.copyfileobj(source, target)
        else:
            target_path = Path(os.path.realpath(path))
            temporary = target_path.with_name(name)
            yield temporary
            if before is not None:
                temporary.chmod(stat.S_IMODE(before.st_mode))
            temporary.replace(target_path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        # After success the name is gone; where the folder itself is unusable there is nothing.
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _is_stream(path: Path, status: os.stat_result | None) -> bool:
    """Whether a path is written to rather than replaced, such as /dev/null or a named pipe."""
    if status is None:
        return False
    return not stat.S_ISREG(status.st_mode) or path.absolute().parts[1] in ("dev", "proc")


def prepare_output(folder: str | Path) -> Path:
    """Make an output folder and prove that it can be written to, before any work is done.

    Args:
        folder: the folder, made with its parents where missing.

    Returns:
        The folder as a path.

    Raises:
        InputError: the path is a file, or the folder cannot be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise InputError(f"output folder {folder} is a file; name a folder") from None
    except OSError as error:
        raise InputError(
            f"output folder {folder} is not writable: {error.strerror or error}"
        ) from error
    return folder
