"""`innerloop-vos evaluate`: segment a split of a data set, and score it."""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from innerloop_vos.commands.score import (
    add_dataset_arguments,
    add_report_arguments,
    open_dataset,
    report,
)
from innerloop_vos.data import Sequence
from innerloop_vos.errors import InputError
from innerloop_vos.files import atomic_path, prepare_output
from innerloop_vos.masks import mask_to_box
from innerloop_vos.methods import add_method_arguments, build_segmenter
from innerloop_vos.scoring import SequenceScores, read_json, score_folder, write_json
from innerloop_vos.segmentation import segment_frames, write_masks
from innerloop_vos.segmenter import Segmenter

_SETTINGS = (
    "dataset",
    "method",
    "solver",
    "backbone",
    "weights",
    "steps",
    "online",
    "option",
    "boxes",
)


def add_parser(commands: Any) -> None:
    """Declare the command and its arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="segment a split of DAVIS and score it",
        description="Segment every sequence from its first annotation into DIR/SEQ/00000.png, and "
        "print J, F and the speed. Run again with the same DIR, it goes on with the sequences that "
        "are not done yet; DIR/scores.json keeps what is.",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for masks and scores")
    add_dataset_arguments(parser)
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="start from the boxes around the first annotation's objects instead",
    )
    add_method_arguments(parser)
    add_report_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Segment and score what is not done yet, then report all."""
    dataset = open_dataset(arguments)
    segmenter = build_segmenter(arguments)
    out = prepare_output(arguments.out)
    _keep_settings(out / "settings.json", arguments)
    scores_path = out / "scores.json"
    done = {s.name: s for s in read_json(scores_path)} if scores_path.exists() else {}
    for sequence in dataset:
        if sequence.name not in done:
            done[sequence.name] = _evaluate(
                segmenter,
                sequence,
                out / sequence.name,
                single_object=dataset.single_object,
                boxes=arguments.boxes,
            )
            write_json(scores_path, list(done.values()))
    report([done[name] for name in dataset.names], arguments)


def _evaluate(
    segmenter: Segmenter, sequence: Sequence, folder: Path, *, single_object: bool, boxes: bool
) -> SequenceScores:
    mask = sequence.masks[0] if sequence.masks else None
    if mask is None:
        raise InputError(f"sequence {sequence.name} has no annotation of its first frame")
    if boxes:
        mask = _from_boxes(segmenter, sequence.frames[0], mask)
    clock = _Clock(segment_frames(segmenter, sequence.frames, {0: mask}))
    labels = tqdm(clock, sequence.name, len(sequence.frames), unit="frame")
    write_masks(prepare_output(folder), sequence.frames.names, labels)
    return score_folder(folder, sequence, single_object=single_object, seconds=clock.seconds)


def _from_boxes(segmenter: Segmenter, frame: Tensor, labels: Tensor) -> Tensor:
    """The masks that are found in the boxes around the objects of labels (H, W)."""
    found = torch.zeros_like(labels)
    for id_ in labels.unique():  # type: ignore[no-untyped-call]
        if id_ == 0:
            continue
        mask = segmenter.mask_from_box(frame, mask_to_box(labels == id_))
        found[mask > 0] = id_
    return found


class _Clock:
    """Counts the seconds in which the next mask is made: reading the frame and segmenting it."""

    def __init__(self, labels: Iterator[Tensor]) -> None:
        self.labels = labels
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        start = time.perf_counter()
        try:
            return next(self.labels)
        finally:
            self.seconds += time.perf_counter() - start


def _keep_settings(path: Path, arguments: argparse.Namespace) -> None:
    """Record the settings of a run, and refuse to go on with one that had others."""
    settings = {name: getattr(arguments, name) for name in _SETTINGS}
    if path.exists():
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}; take another --out") from None
        if before != settings:
            raise InputError(
                f"--out: {path.parent} holds a run with {before}, not {settings}; take another "
                "folder, or remove it"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n")
