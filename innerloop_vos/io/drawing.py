"""Pictures of results: masks drawn over frames, and many frames on one sheet."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path
from innerloop_vos.io.masks import PALETTE

_GAP = 4  # pixels between the pictures of a sheet
_CAPTION = 16  # pixels of a line of text


def overlay(frame: Tensor, labels: Tensor, alpha: float = 0.4) -> Tensor:
    """Draw objects over a frame: tinted in the palette's colours, outlined in brighter ones.

    A black line on either side of the bright one sets it apart from any picture.

    Args:
        frame: the frame, `(3, H, W)` uint8 RGB.
        labels: object ids, `(H, W)` uint8, 0 for background.
        alpha: opacity of the tint, from 0 to 1. Default 0.4.

    Returns:
        The picture, `(3, H, W)` uint8 RGB; the background is as it was but for the outer black
        line, which is as wide as the bright one: about 1/400 of the height, at least a pixel.

    Raises:
        InputError: the labels have another size than the frame.
    """
    if labels.shape != frame.shape[1:]:
        raise InputError(
            f"labels of shape {tuple(labels.shape)} do not fit a frame of {tuple(frame.shape)}"
        )
    palette = PALETTE.to(frame.device)
    picture = frame.clone()
    inside = labels > 0
    colours = palette[labels[inside].long()].T
    picture[:, inside] = (
        torch.lerp(frame[:, inside].float(), colours.float(), alpha).round().to(torch.uint8)
    )
    line = max(1, round(labels.shape[0] / 400))
    edge = _near_another(labels, line)
    picture[:, torch.where(inside, _near_another(labels, 2 * line), edge)] = 0
    edge &= inside
    # The palette is dark: this much brighter, its colours stand out from black.
    bright = (palette[labels[edge].long()].T.int() + 127).clamp(max=255)
    picture[:, edge] = bright.to(torch.uint8)
    return picture


def contact_sheet(
    pictures: Iterable[Tensor],
    path: str | Path,
    columns: int = 4,
    width: int = 320,
    captions: Sequence[str] | None = None,
) -> None:
    """Write many pictures as one PNG, row by row, whole or not at all.

    Args:
        pictures: pictures, `(3, H, W)` uint8 RGB, all of one size.
        path: the file to write, ending in `.png`.
        columns: number of pictures per row.
        width: the width of each in pixels; the height keeps its proportion.
        captions: a line of text above each picture.

    Raises:
        InputError: there are no pictures, or the file cannot be written.
    """
    tiles = [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in pictures]
    if not tiles:
        raise InputError(f"there are no pictures for the contact sheet {path}")
    height = round(width * tiles[0].height / tiles[0].width)
    line = _CAPTION if captions else 0
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    across, down = width + _GAP, height + line + _GAP
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, tile in enumerate(tiles):
        left, top = _GAP + index % columns * across, _GAP + index // columns * down
        sheet.paste(tile.resize((width, height), Image.Resampling.LANCZOS), (left, top + line))
        if captions:
            draw.text((left, top), captions[index], fill="black", font_size=12)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _near_another(labels: Tensor, distance: int) -> Tensor:
    """Return which pixels are within a distance, along a row or a column, of another id."""
    near = torch.zeros_like(labels, dtype=torch.bool)
    # Comparing shifted views is a hundred times faster than max pooling.
    for shift in range(1, distance + 1):
        differs = labels[shift:] != labels[:-shift]
        near[shift:] |= differs
        near[:-shift] |= differs
        differs = labels[:, shift:] != labels[:, :-shift]
        near[:, shift:] |= differs
        near[:, :-shift] |= differs
    return near
