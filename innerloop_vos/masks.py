"""Label maps: reading and writing masks as PNG files, boxes, and the palette of DAVIS and VOC."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from innerloop_vos.errors import InputError
from innerloop_vos.files import atomic_path, read_image

# A grey image holds ids only up to here: larger values are shades, and no id can be read off them.
LARGEST_GREY_ID = 32


def _palette() -> Tensor:
    # VOC's colour map: bits 0, 3, 6 of the id become the highest bits of red, 1, 4, 7 of green ...
    ids = torch.arange(256)
    colours = torch.zeros(256, 3, dtype=torch.long)
    for channel in range(3):
        for bit in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.to(torch.uint8)


PALETTE = _palette()
"""The colour of every id, ``(256, 3)`` uint8 RGB, as in the masks of DAVIS and VOC."""


def read_mask(path: str | Path) -> Tensor:
    """Read a mask image as a map of object ids.

    Accepted are palette images (the index is the id), black and white (1 bit, 0/255, 0/1), grey
    images that hold small ids, colour images drawn in the DAVIS palette, and any of these with an
    alpha channel, whose transparent pixels are background. So is void, 255 beside other ids or in
    its colour, as in DAVIS's own evaluation.

    Args:
        path: The image file, usually a PNG.

    Returns:
        Object ids, ``(H, W)`` uint8, 0 for background; all zero if the mask is empty.

    Raises:
        InputError: The file cannot be read, or its values do not say which object they mean.
    """
    image = read_image(path)
    opaque = None
    if image.mode in ("LA", "PA", "RGBA"):
        opaque = np.asarray(image.getchannel("A"))
    if image.mode in ("P", "PA"):
        ids = _from_index(np.asarray(image.getchannel(0)), image.getpalette() or [])
    elif image.mode == "1":
        ids = np.asarray(image).astype(np.uint8)
    elif image.mode in ("L", "LA"):
        ids = _from_grey(np.asarray(image.getchannel(0)), path)
    elif image.mode in ("RGB", "RGBA"):
        ids = _from_colour(np.asarray(image.convert("RGB")), path)
    else:
        raise InputError(
            f"mask {path} has mode {image.mode}; "
            "it should be a palette, black-and-white, 8-bit grey or RGB image"
        )
    if opaque is not None:
        found = np.unique(opaque)
        if not np.isin(found, (0, 255)).all():
            raise InputError(
                f"mask {path} is partly transparent (alpha values {_listed(found)}); "
                "alpha should be 0 or 255"
            )
        ids = np.where(opaque == 255, ids, 0)
    return torch.from_numpy(np.array(ids, dtype=np.uint8))


def write_mask(path: str | Path, labels: Tensor) -> None:
    """Write object ids as a palette PNG, whole or not at all.

    Args:
        path: The file to write, ending in ``.png``.
        labels: Object ids, ``(H, W)`` uint8, 0 for background.

    Raises:
        InputError: ``labels`` is no map of ids, or the file cannot be written.
    """
    _check_labels(labels, "labels")
    image = Image.fromarray(labels.cpu().numpy())
    image.putpalette(PALETTE.numpy().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def check_mask(labels: Tensor, size: tuple[int, int], name: str = "mask") -> None:
    """Check that a first mask fits its frame and holds an object.

    Args:
        labels: Object ids, ``(H, W)`` uint8, 0 for background.
        size: Height and width of the frame in pixels.
        name: What the message calls the mask, for example its file.

    Raises:
        InputError: The mask is no map of ids, has another size than the frame, or is empty.
    """
    _check_labels(labels, name)
    if tuple(labels.shape) != tuple(size):
        raise InputError(
            f"{name} is {labels.shape[1]}x{labels.shape[0]} pixels (width x height), "
            f"but the frame is {size[1]}x{size[0]}"
        )
    if not labels.any():
        raise InputError(f"{name} is empty: no pixel belongs to an object")


def parse_box(text: str) -> tuple[int, int, int, int]:
    """Parse a box from the command line.

    Args:
        text: ``"X,Y,W,H"``: left, top, width and height in whole pixels.

    Returns:
        The four numbers.

    Raises:
        InputError: The text is not four whole numbers.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"box {text!r} is not X,Y,W,H (left, top, width and height in whole pixels)"
        ) from None
    return x, y, width, height


def box_to_mask(box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Fill a box with object 1.

    Args:
        box: Left, top, width and height in pixels.
        size: Height and width of the frame in pixels.

    Returns:
        Object ids, ``(H, W)`` uint8: 1 inside the box, 0 outside.

    Raises:
        InputError: The box has no area or does not lie inside the frame.
    """
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise InputError(f"box {box} has no area: its width and height should be positive")
    if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        raise InputError(
            f"box {box} (x, y, width, height) does not lie inside the frame, "
            f"which is {size[1]}x{size[0]} pixels (width x height)"
        )
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def mask_to_box(mask: Tensor) -> tuple[int, int, int, int]:
    """Find the smallest box around a mask.

    Args:
        mask: True or not zero on the object, ``(H, W)``; not empty.

    Returns:
        Left, top, width and height in pixels.
    """
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _check_labels(labels: Tensor, name: str) -> None:
    if labels.dtype != torch.uint8 or labels.dim() != 2:
        raise InputError(
            f"{name} should be object ids, (H, W) uint8; "
            f"got {tuple(labels.shape)} {str(labels.dtype).removeprefix('torch.')}"
        )
    if (labels == 255).any():
        raise InputError(f"{name} holds the value 255, which is no object id (1 to 254)")


def _from_index(index: NDArray[np.uint8], palette: list[int]) -> NDArray[np.uint8]:
    void = palette[3 * 255 :] == PALETTE[255].tolist() or not np.isin(index, (0, 255)).all()
    # Where it is not void, 255 is the white of a black and white mask saved with a palette.
    return np.where(index == 255, np.uint8(not void), index)


def _from_grey(grey: NDArray[np.uint8], path: str | Path) -> NDArray[np.uint8]:
    found = np.unique(grey)
    if np.isin(found, (0, 255)).all():
        return grey // np.uint8(255)
    if found[-1] <= LARGEST_GREY_ID:
        return grey
    raise InputError(
        f"grey mask {path} holds the values {_listed(found)}, which do not say which object is "
        f"which; it should hold 0 and 255, or object ids up to {LARGEST_GREY_ID} (a palette PNG "
        "holds more), without soft edges"
    )


def _from_colour(rgb: NDArray[np.uint8], path: str | Path) -> NDArray[np.uint8]:
    # Some DAVIS tools write 191 where VOC has 192.
    levels = np.where(rgb == 191, 192, rgb).astype(np.int32)
    codes = levels @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    palette = PALETTE.numpy().astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    id_of = {int(code): index for index, code in enumerate(palette)}
    found, inverse = np.unique(codes, return_inverse=True)
    unknown = [code for code in found if int(code) not in id_of]
    if not unknown:
        ids = np.array([id_of[int(code)] % 255 for code in found], dtype=np.uint8)
        return ids[inverse].reshape(codes.shape)
    if (rgb == rgb[..., :1]).all():
        return _from_grey(rgb[..., 0], path)
    colours = [f"#{code:06x}" for code in unknown]
    raise InputError(
        f"colour mask {path} holds {_listed(np.array(colours))}, which the DAVIS palette lacks; "
        "it should be black and white or drawn in the palette's colours, without soft edges"
    )


def _listed(values: NDArray[np.generic]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown if len(values) <= 8 else f"{shown}, ... ({len(values)} different)"
