"""Reading images and writing files: failures are named, and nothing is lost or left behind."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from innerloop._files import atomic_path, prepare_output, regular_file
from innerloop.errors import InputError

__all__ = [
    "FRAME_FORMATS",
    "atomic_folder",
    "atomic_path",
    "open_image",
    "prepare_output",
    "read_image",
    "regular_file",
    "upright_size",
]

FRAME_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""The formats that are decoded, whatever a file's name; an EPS, for example, would be executed."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


@contextmanager
def open_image(path: str | Path, formats: tuple[str, ...] = FRAME_FORMATS) -> Iterator[Image.Image]:
    """Open an image file; only its header is read until its pixels are needed.

    Args:
        path: the file.
        formats: pillow's names of the formats that it may have.

    Yields:
        The image, as it is stored.

    Raises:
        InputError: the file is missing, no regular file, no image of these formats, corrupt, too
            large (Pillow's limit of pixels) or holds several pictures; also on decoding in the
            block.
    """
    regular_file(path, "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage that does not matter, such as in EXIF data
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                # In an MPO, as written by phones, the further pictures are views of the first.
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise ValueError(f"it holds {image.n_frames} pictures")  # type: ignore[attr-defined]
                yield image
    except InputError:
        raise
    except Exception as error:  # Pillow raises almost anything for damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} is not a readable image ({', '.join(formats)}), or is corrupt: {text}"
        ) from error


def read_image(
    path: str | Path, formats: tuple[str, ...] = FRAME_FORMATS, *, upright: bool = True
) -> Image.Image:
    """Read a whole image file, whatever its mode.

    Args:
        path: the file.
        formats: pillow's names of the formats that it may have.
        upright: turn it as its EXIF orientation says, as viewers do. Default True.

    Returns:
        The decoded image, independent of the file.

    Raises:
        InputError: see `open_image`.
    """
    with open_image(path, formats) as image:
        turn = _UPRIGHT.get(_orientation(image)) if upright else None
        kind = image.format
        image.load()
        if turn is not None:
            image = image.transpose(turn)
            image.format = kind
        return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of an opened image once it is turned upright."""
    width, height = image.size
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation from the header, 1 (upright) where there is none."""
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    try:
        # Not by the method of PNG images, which would decode the whole image.
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # viewers ignore damaged EXIF data
        return 1


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into `folder` once the block succeeds.

    Args:
        folder: folder to write to, which exists. Files of the same names in it are replaced, links
            as in `atomic_path`.

    Yields:
        A folder inside `folder`. It is removed, with all that is in it, if the block raises.

    Raises:
        InputError: the operating system refused to write.
    """
    folder = Path(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as name:
            yield Path(name)
            for path in sorted(Path(name).iterdir()):
                with atomic_path(folder / path.name) as temporary:
                    shutil.move(path, temporary)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
