"""Masks over frames, as the papers show them."""

from collections.abc import Sequence
from pathlib import Path

from innerloop_vos.data import SequenceFolders
from innerloop_vos.io.drawing import contact_sheet, overlay
from innerloop_vos.io.masks import read_mask


def draw_masks(
    path: Path, results: Path, dataset: SequenceFolders, places: Sequence[float]
) -> None:
    """Draw masks over some frames of every sequence, a line each.

    Args:
        path: the PNG file.
        results: the folder with the masks, SEQ/FRAME.png.
        dataset: the sequences.
        places: of the frames, from 0 for the first to 1 for the last.
    """
    pictures, captions = [], []
    for sequence in dataset:
        for place in places:
            index = round(place * (len(sequence.frames) - 1))
            name = sequence.frames.names[index]
            labels = read_mask(results / sequence.name / f"{name}.png")
            pictures.append(overlay(sequence.frames[index], labels))
            captions.append(f"{sequence.name} {name}")
    contact_sheet(pictures, path, columns=len(places), captions=captions)
