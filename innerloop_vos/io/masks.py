"""Label maps: reading and writing masks as PNG files, boxes, and the palette of DAVIS and VOC."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import FRAME_FORMATS, atomic_path, read_image

# A grey image holds ids only up to this: larger values are shades, which name no id.
LARGEST_GREY_ID = 32
_BLENDED = 0.12  # share of the edges; interpolation of one object makes it a third
_WAY_ON = (
    "`segment --threshold 127` takes what is brighter as object 1, `--binary` all that is not black"
)


def _palette() -> Tensor:
    # VOC's colour map: bits 0, 3, 6 of the id become the highest bits of red, 1, 4, 7 of green ...
    ids = torch.arange(256)
    colours = torch.zeros(256, 3, dtype=torch.long)
    for channel in range(3):
        for bit in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.to(torch.uint8)


PALETTE = _palette()
"""The colour of every id, `(256, 3)` uint8 RGB, as in the masks of DAVIS and VOC."""


def read_mask(path: str | Path, *, threshold: int | None = None, binary: bool = False) -> Tensor:
    """Read a mask image as a map of object ids.

    Accepted are palette images (the index is the id) whose palette is DAVIS's or grey, or has black
    only at index 0; black and white images (1 bit, 0/255, 0/1); grey images with small ids, also of
    16 or 32 bits; colour images drawn in the DAVIS palette; and any of these with an alpha channel,
    whose transparent pixels are background. Void is background too, as in DAVIS's own evaluation:
    255 in a palette image that holds other ids, or its colour.

    Args:
        path: the image file, usually a PNG.
        threshold: take the pixels brighter than this, 0 to 254, as object 1, whatever the image.
        binary: take all pixels that are not black as object 1.

    Returns:
        Object ids, `(H, W)` uint8, 0 for background; all zero if the mask is empty.

    Raises:
        InputError: the file cannot be read, or its values do not say which object they mean.
    """
    if threshold is not None and not 0 <= threshold <= 254:
        raise InputError(f"threshold: {threshold}, should be 0 to 254")
    image = read_image(path, (*FRAME_FORMATS, "GIF"))
    if threshold is not None or binary:
        return _above(image, threshold or 0)
    opaque = None
    if image.mode in ("LA", "PA", "RGBA"):
        opaque = np.asarray(image.getchannel("A"))
    if image.mode in ("P", "PA"):
        index = np.asarray(image.getchannel(0))
        ids = _from_index(index, image.getpalette() or [], path)
    elif image.mode == "1":
        ids = np.asarray(image).astype(np.uint8)
    elif image.mode in ("L", "LA"):
        ids = _from_grey(np.asarray(image.getchannel(0)), path)
    elif image.mode.startswith("I"):
        ids = _from_grey(np.asarray(image).astype(np.int64), path)
    elif image.mode in ("RGB", "RGBA"):
        ids = _from_colour(np.asarray(image.convert("RGB")), path)
    else:
        raise InputError(
            f"mask {path} has mode {image.mode}; "
            "it should be a palette, black-and-white, grey or RGB image"
        )
    if image.format in ("JPEG", "MPO") and not np.isin(ids, (0, 1)).all():
        raise InputError(f"mask {path} is a JPEG, whose noise changes object ids; {_WAY_ON}")
    if opaque is not None:
        found = _values(opaque)
        if not np.isin(found, (0, 255)).all():
            raise InputError(
                f"mask {path} is partly transparent (alpha values {_listed(found)}); "
                f"alpha should be 0 or 255; {_WAY_ON}"
            )
        ids = np.where(opaque == 255, ids, 0)
    return torch.from_numpy(np.array(ids, dtype=np.uint8))


def describe(labels: Tensor) -> str:
    """Say how many objects a mask holds, such as `2 objects: 1 (1,005 pixels), 2 (330)`."""
    areas = dict(enumerate(labels.flatten().bincount().tolist()))
    sizes = {id_: area for id_, area in areas.items() if id_ and area}
    unit = dict.fromkeys(list(sizes)[:1], " pixels")
    listed = ", ".join(f"{id_} ({area:,}{unit.get(id_, '')})" for id_, area in sizes.items())
    return f"{len(sizes)} object{'s' if len(sizes) != 1 else ''}: {listed}"


def write_mask(path: str | Path, labels: Tensor) -> None:
    """Write object ids as a palette PNG, whole or not at all.

    Args:
        path: the file to write, ending in `.png`.
        labels: object ids, `(H, W)` uint8, 0 for background.

    Raises:
        InputError: `labels` is not a map of ids, or the file cannot be written.
    """
    _check_labels(labels, "labels")
    image = Image.fromarray(labels.cpu().numpy())
    image.putpalette(PALETTE.numpy().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def check_mask(
    labels: Tensor, size: tuple[int, int], name: str = "mask", *, empty: bool = False
) -> None:
    """Check that a mask fits its frame and holds an object.

    Args:
        labels: object ids, `(H, W)` uint8, 0 for background.
        size: height and width of the frame in pixels.
        name: name of the mask in the message, for example its file.
        empty: whether it may hold no object. Default False.

    Raises:
        InputError: the mask is not a map of ids, has another size than the frame, or is empty.
    """
    _check_labels(labels, name)
    if tuple(labels.shape) != tuple(size):
        raise InputError(
            f"{name} is {labels.shape[1]}x{labels.shape[0]} pixels (width x height), "
            f"but the frame is {size[1]}x{size[0]}"
        )
    if not empty and not labels.any():
        raise InputError(f"{name} is empty: no pixel belongs to an object")


def parse_box(text: str) -> tuple[int, int, int, int]:
    """Parse a box from the command line.

    Args:
        text: `"X,Y,W,H"`: left, top, width and height in whole pixels.

    Returns:
        The four numbers.

    Raises:
        InputError: the text is not four whole numbers.
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
        box: left, top, width and height in pixels.
        size: height and width of the frame in pixels.

    Returns:
        Object ids, `(H, W)` uint8: 1 inside the box, 0 outside.

    Raises:
        InputError: the box has no area or does not lie inside the frame.
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
        mask: True or not zero on the object, `(H, W)`; not empty.

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
        raise InputError(f"{name} holds the value 255, which is not an object id (1 to 254)")


def _above(image: Image.Image, threshold: int) -> Tensor:
    """Object 1 where the brightest channel is above a threshold and the image is opaque."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        values = values / (257 if values.max() > 255 else 1)  # 65535 is white, too
        return torch.from_numpy((values > threshold).astype(np.uint8))
    channels = np.asarray(image.convert("RGBA")).astype(np.int32)
    shown = channels[..., :3].max(-1) * channels[..., 3] // 255
    return torch.from_numpy((shown > threshold).astype(np.uint8))


def _from_index(
    index: NDArray[np.uint8], palette: list[int], path: str | Path
) -> NDArray[np.uint8]:
    colours = {i: palette[3 * i : 3 * i + 3] for i in _values(index).tolist()}
    shown = {i: colour for i, colour in colours.items() if len(colour) == 3}
    if all(colour == [i] * 3 for i, colour in shown.items()) and shown.keys() - {0}:
        return _from_grey(index, path)
    official = all(
        np.abs(np.subtract(colour, PALETTE[i].tolist())).max() <= 1 for i, colour in shown.items()
    )
    if (official and shown) or (255 in colours and len(colours) > 2):
        return np.where(index == 255, np.uint8(0), index)
    black = [i for i, colour in shown.items() if colour == [0, 0, 0]]
    if black not in ([0], []) or (0 in shown and not black) or _is_blended(index):
        raise InputError(
            f"mask {path} has a palette whose indices need not mean objects: index 0 should be "
            f"black, alone, and every other the id of an object without soft edges; {_WAY_ON}"
        )
    return np.where(index == 255, np.uint8(1), index)


def _values(ids: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The values that occur, in order: `np.unique`, which takes ten times as long for bytes."""
    if ids.dtype != np.uint8:
        return np.unique(ids)
    return np.bincount(ids.ravel()).nonzero()[0]


def _from_grey(grey: NDArray[np.integer[Any]], path: str | Path) -> NDArray[np.uint8]:
    found = _values(grey)
    if np.isin(found, (0, 255)).all() or np.isin(found, (0, 65535)).all():
        return (grey > 0).astype(np.uint8)
    if found[0] >= 0 and found[-1] <= LARGEST_GREY_ID and not _is_blended(grey):
        return grey.astype(np.uint8)
    raise InputError(
        f"grey mask {path} holds the values {_listed(found)}, which do not say which object is "
        f"which; it should hold 0 and 255, or object ids up to {LARGEST_GREY_ID} (a palette PNG "
        f"holds more), without soft edges; {_WAY_ON}"
    )


def _is_blended(ids: NDArray[np.integer[Any]]) -> bool:
    """Whether many pixels at edges have values that only come from interpolation or noise.

    Such a pixel lies in no 3x3 block of its own value, and beside at least two others. Where two
    objects meet before the background there are few of them.
    """
    low, high = minimum_filter(ids, 3, mode="nearest"), maximum_filter(ids, 3, mode="nearest")
    edge = low != high
    solid = ids[~edge]
    if len(_values(solid)) < 2:  # objects too small to tell
        return False
    fringe = edge & (ids != low) & (ids != high)
    fringe &= maximum_filter(~edge, 3, mode="nearest") == 0
    return bool(fringe.sum() > _BLENDED * edge.sum())


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
        f"it should be black and white or drawn in the palette's colours, without soft "
        f"edges; {_WAY_ON}"
    )


def _listed(values: NDArray[np.generic]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown if len(values) <= 8 else f"{shown}, ... ({len(values)} different)"
