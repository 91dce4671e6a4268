"""Reading images and writing files so that a failure is named and leaves nothing behind."""

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from innerloop.errors import InputError
from innerloop.files import atomic_path, prepare_output

__all__ = ["UNREADABLE", "atomic_folder", "atomic_path", "prepare_output", "read_image"]

# What Pillow raises for damaged files, by format and by the place of the damage.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError)


def read_image(path: str | Path) -> Image.Image:
    """Read a whole image file, whatever its mode.

    Args:
        path: A PNG, JPEG or other file that Pillow reads.

    Returns:
        The decoded image, independent of the file.

    Raises:
        InputError: The file is missing, is no image, or is truncated or otherwise corrupt.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise InputError(f"no such image: {path}") from None
    except UNREADABLE as error:
        raise InputError(f"{path} is not a readable image, or is corrupt: {error}") from error


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into `folder` once the block succeeds.

    Args:
        folder: Folder to write to, which exists. Files of the same names in it are replaced.

    Yields:
        A folder inside `folder`. It is removed, with all that is in it, if the block raises.

    Raises:
        InputError: The operating system refused to write.
    """
    folder = Path(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as name:
            yield Path(name)
            for path in sorted(Path(name).iterdir()):
                path.replace(folder / path.name)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
