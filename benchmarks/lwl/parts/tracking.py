"""How well and how fast do segmenters follow objects?"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median

import torch

from innerloop.errors import InputError
from innerloop_vos.data import DavisDataset
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.io.files import atomic_path
from innerloop_vos.io.masks import mask_to_box
from innerloop_vos.scoring import score_sequence
from innerloop_vos.segmenter import Segmenter

HELD_OUT = (
    "bear",
    "bmx-bumps",
    "dance-jump",
    "scooter-gray",
    "soccerball",
    "hockey",
    "kite-walk",
    "mallard-water",
    "paragliding",
    "stroller",
)
"""Sequences of DAVIS 2016's train split that LWL-lite was not trained on."""

COLUMNS = ("J&F", "J", "F", "first, s", "later, s")

Row = dict[str, float]


def add_clip_arguments(parser: argparse.ArgumentParser, sequences: Sequence[str]) -> None:
    """Add the options that say which frames are segmented, by default of these sequences."""
    parser.add_argument("--davis", required=True, metavar="ROOT")
    parser.add_argument("--sequences", nargs="+", default=list(sequences), help="names")
    parser.add_argument("--every", type=int, default=3, help="take every such frame of a clip")
    parser.add_argument(
        "--boxes", action="store_true", help="start from the boxes around the first masks"
    )


def compare(
    segmenters: Iterable[tuple[str, Segmenter]], arguments: argparse.Namespace, path: Path
) -> None:
    """Measure segmenters on one thread, print a table, and write it.

    Args:
        segmenters: with the names of their rows.
        arguments: what a parser with `add_clip_arguments` parsed.
        path: JSON file, whose folder is made.
    """
    torch.set_num_threads(1)
    clips = list(DavisDataset(arguments.davis, sequences=arguments.sequences))
    rows: dict[str, Row] = {}
    print(f"{'':26}" + "".join(f"{column:>10}" for column in COLUMNS))
    for name, segmenter in segmenters:
        row = rows[name] = measure(segmenter, clips, arguments.every, boxes=arguments.boxes)
        print(f"{name:26}" + "".join(f"{row[column]:10.2f}" for column in COLUMNS), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        measured = {
            "sequences": arguments.sequences,
            "every": arguments.every,
            "boxes": arguments.boxes,
            "rows": rows,
        }
        temporary.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def measure(segmenter: Segmenter, clips: Sequence[Clip], every: int, *, boxes: bool = False) -> Row:
    """Segment clips, score them, and take the time.

    Args:
        segmenter: started anew on every clip.
        clips: annotated clips.
        every: take every such frame, from the first.
        boxes: start from the boxes around the first masks. Default False.

    Returns:
        The figures by the names in `COLUMNS`, and J&F of each clip by its name.

    Raises:
        InputError: a clip has no annotation of its first frame.
    """
    firsts: list[float] = []
    laters: list[float] = []
    row: Row = {}
    regions, contours = [], []
    for clip in clips:
        truths = list((clip.masks or [])[::every])
        if not truths or truths[0] is None:
            raise InputError(f"sequence {clip.name} has no annotation of its first frame")
        found = []
        for index in range(0, len(clip.frames), every):
            frame = clip.frames[index]
            start = time.process_time()
            if index:
                found.append(segmenter.step(frame))
            else:
                first = truths[0]
                if boxes:
                    first = segmenter.mask_from_box(frame, mask_to_box(first))
                found.append(segmenter.start(frame, first, from_boxes=boxes))
            (laters if index else firsts).append(time.process_time() - start)
        scores = score_sequence(clip.name, clip.frames.names[::every], found, truths)
        regions.append(100 * fmean(fmean(each.region) for each in scores.objects))
        contours.append(100 * fmean(fmean(each.contour) for each in scores.objects))
        row[clip.name] = (regions[-1] + contours[-1]) / 2
    figures = (fmean(regions) + fmean(contours)) / 2, fmean(regions), fmean(contours)
    return dict(zip(COLUMNS, (*figures, median(firsts), median(laters)), strict=True)) | row
