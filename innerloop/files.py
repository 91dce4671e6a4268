"""Writing files so that a failure is named and leaves nothing behind."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from innerloop.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place once the block succeeds.

    Args:
        path: The file to write. The temporary path has the same suffix, so that writers which
            choose a format by it do the same as with ``path``.

    Yields:
        A path in the same folder. It is removed if the block raises.

    Raises:
        InputError: The operating system refused to write (folder missing, not writable, disk full).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        # After success the name is gone; where the folder itself is unusable there is nothing.
        with suppress(OSError):
            temporary.unlink()


def prepare_output(folder: str | Path) -> Path:
    """Make an output folder and prove that it can be written to, before any work is done.

    Args:
        folder: The folder, made with its parents where missing.

    Returns:
        The folder as a path.

    Raises:
        InputError: It is a file, or cannot be made or written to.
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
