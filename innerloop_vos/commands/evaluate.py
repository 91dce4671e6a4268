"""`innerloop-vos evaluate`: segment a split of a data set, and score it."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from innerloop.errors import InputError
from innerloop_vos.commands import methods_table
from innerloop_vos.commands.datasets import (
    add_dataset_arguments,
    add_task_argument,
    is_unsupervised,
    open_dataset,
)
from innerloop_vos.commands.outputs import check_outputs, data_folders, prepare_folders
from innerloop_vos.commands.score import add_report_arguments, report
from innerloop_vos.data import Sequence, SequenceFolders
from innerloop_vos.data.sequence import Annotations, annotated
from innerloop_vos.io.files import atomic_path, prepare_output
from innerloop_vos.io.masks import mask_to_box
from innerloop_vos.methods.registry import (
    add_method_arguments,
    build_segmenter,
    build_unsupervised,
    parse_device,
)
from innerloop_vos.runs.folder import (
    Record,
    check_same,
    describe,
    digest,
    frames_digest,
    locked,
    read_record,
    sweep,
    text_digest,
)
from innerloop_vos.runs.memory import peak_memory
from innerloop_vos.runs.segmentation import find_objects, segment_frames, write_masks
from innerloop_vos.runs.submission import check_archive, write_submission
from innerloop_vos.scoring import NothingToScoreError, SequenceScores, score_folder, write_json
from innerloop_vos.scoring import read_json as read_scores
from innerloop_vos.segmenter import Segmenter
from innerloop_vos.training import processes
from innerloop_vos.unsupervised import UnsupervisedSegmenter

SETTINGS = "settings.json"
SCORES = "scores.json"
DONE = ".scores"
"""Folder of the scores of sequences that are done, a file each."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        "Segment every sequence, from the frames that show its objects first, or for --task "
        "unsupervised from nothing, into DIR/SEQ/00000.png, and print J, F and the speed; of "
        "sequences without further annotations, the speed alone. Run again with the same DIR, it "
        "goes on with the sequences that are not done yet. DIR/scores.json has the scores of all. "
        "Started by torchrun, the processes share the sequences."
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for masks and scores")
    add_dataset_arguments(parser)
    add_task_argument(parser)
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="start from the boxes around the objects instead of their masks",
    )
    parser.add_argument(
        "--submission",
        metavar="FILE.zip",
        help="pack the masks as the server of the benchmark takes them",
    )
    which = add_method_arguments(parser)
    which.add_argument(
        "--methods",
        metavar="A,B",
        help="compare these methods: each goes to DIR/METHOD, and one table, with its picture in "
        "DIR/comparison.png, has quality, speed, memory and parameters, beside published systems "
        "where exactly these sequences were measured; options of a method stand behind its name, "
        "as in 'ridge,e-osvos --steps 50,lwl --weights FILE'",
    )
    add_report_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Segment and score what is not done yet, then report all."""
    if arguments.methods is not None:
        methods_table.run(arguments)
        return
    dataset = open_dataset(arguments)
    sequences = list(dataset)
    unsupervised = is_unsupervised(arguments)
    if unsupervised and arguments.boxes:
        raise InputError("--boxes: in the unsupervised task there is nothing to start from")
    bare = [each.name for each in sequences if not annotated(each.masks)]
    if bare and not unsupervised:
        raise InputError(f"sequence {bare[0]} has no annotation to start from")
    _check_places(arguments, dataset, sequences)
    if arguments.submission:
        check_archive(arguments.submission)
    prepare_folders([arguments.csv, arguments.json, arguments.submission])
    with processes.connected(parse_device(arguments.device)) as device:
        build = build_unsupervised if unsupervised else build_segmenter
        segmenter = build(arguments, device)
        out = prepare_output(arguments.out)
        if processes.rank() > 0:
            processes.wait()  # until the folder is known to be that of this run
            _evaluate_all(segmenter, sequences, dataset, out, boxes=arguments.boxes)
            return
        with locked(out):
            without = ("root", "split", "sequences", "submission")
            record = describe(arguments, without=without)
            _keep_settings(out, record, {each.name: _data(each) for each in sequences})
            if (out / DONE).is_symlink():
                raise InputError(f"--out: {out / DONE} is a link; take another folder")
            sweep(prepare_output(out / DONE))
            processes.wait()
            _evaluate_all(segmenter, sequences, dataset, out, boxes=arguments.boxes)
            done = _read_scores(out, sequences)
            ours = [done[name] for name in dataset.names]
            # Those of sequences that were asked for before stay in the list.
            others = [path for path in (out / DONE).glob("*.json") if path.stem not in done]
            before = [scores for path in sorted(others) for scores in read_scores(path)]
            write_json(out / SCORES, ours + before)
            if arguments.submission:
                frames = {each.name: dataset.submitted(each) for each in sequences}
                write_submission(arguments.submission, out, frames, dataset.archive)
            report(ours, dataset, arguments)


def _evaluate_all(
    segmenter: Segmenter | UnsupervisedSegmenter,
    sequences: list[Sequence],
    dataset: SequenceFolders,
    out: Path,
    *,
    boxes: bool,
) -> None:
    """Do this process's share, and wait for the others."""
    mine = sequences[processes.rank() :: processes.count()]
    done = _read_scores(out, mine)
    for sequence in mine:
        if sequence.name not in done:
            scores = _evaluate(segmenter, sequence, dataset, out / sequence.name, boxes=boxes)
            write_json(_record(out, sequence), [scores])
    processes.wait()


def _check_places(
    arguments: argparse.Namespace, dataset: SequenceFolders, sequences: list[Sequence]
) -> None:
    """Check that nothing that is read is written over, and no table takes the place of masks."""
    out = Path(arguments.out)
    records = [out / SETTINGS, out / SCORES, out / DONE]
    folders = [out / sequence.name for sequence in sequences]
    masks = [
        folder / f"{name}.png"
        for folder, sequence in zip(folders, sequences, strict=True)
        for name in sequence.frames.names
    ]
    tables = {
        "--csv": [arguments.csv],
        "--json": [arguments.json],
        "--submission": [arguments.submission],
    }
    check_outputs(
        {"--out": [out, *records, *folders, *masks], **tables},
        {"--weights": [arguments.weights]},
        {"--root": [*data_folders(arguments.root), *dataset.folders]},
    )
    check_outputs(tables, {"--out": [out, *records]}, {"--out": folders})


def _data(sequence: Sequence) -> str:
    """Tell a sequence by its frames and its annotations."""
    annotations = sequence.masks.paths if isinstance(sequence.masks, Annotations) else []
    return frames_digest(sequence.frames) + digest(annotations)


def _keep_settings(out: Path, record: Record, data: dict[str, str]) -> None:
    """Record what a run was started with, and refuse to go on with one that had others."""
    path = out / SETTINGS
    if path.exists() or path.is_symlink():
        before = dict(read_record(path, "settings"))
        if before.pop("digest", None) != text_digest(before) or "data" not in before:
            raise InputError(f"{path} holds no settings, or was changed; take another --out")
        known = before.pop("data")
        check_same(before, record, f"--out: {out}")
        changed = [name for name in data if known.get(name, data[name]) != data[name]]
        if changed:
            raise InputError(
                f"--out: {out} holds a run on other data: the frames or annotations of "
                f"{', '.join(changed)} differ; take another folder"
            )
        data = known | data
    elif found := [name for name in (*data, SCORES, DONE) if _holds_something(out / name)]:
        raise InputError(
            f"--out: {out / found[0]} is there, but no {path} that says of what run it is; take "
            "another folder"
        )
    settings = record | {"data": data}
    settings["digest"] = text_digest(settings)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n")


def _holds_something(path: Path) -> bool:
    return path.is_symlink() or (any(path.iterdir()) if path.is_dir() else path.exists())


def _record(out: Path, sequence: Sequence) -> Path:
    """The file that says that a sequence is done."""
    return out / DONE / f"{sequence.name}.json"


def _read_scores(out: Path, sequences: list[Sequence]) -> dict[str, SequenceScores]:
    """Read what is done, and check that the masks are those that were scored."""
    done = {}
    for sequence in sequences:
        path = _record(out, sequence)
        if not path.exists() and not path.is_symlink():
            continue
        how = f"; take another --out, or remove {path} to segment it again"
        found = read_scores(path)
        if [each.name for each in found] != [sequence.name]:
            raise InputError(f"{path} does not hold the scores of {sequence.name}{how}")
        scores = done[sequence.name] = found[0]
        names = set(sequence.frames.names)
        if scores.length != len(sequence.frames) or not all(
            names.issuperset(each.frames) for each in scores.objects
        ):
            raise InputError(f"{path} holds scores of other frames of {sequence.name}{how}")
        if scores.masks != _masks(out / sequence.name, sequence):
            raise InputError(
                f"the masks in {out / sequence.name} are not those that were scored{how}"
            )
    return done


def _masks(folder: Path, sequence: Sequence) -> str | None:
    """Tell the masks of a sequence by their content; None if there are not all."""
    paths = [folder / f"{name}.png" for name in sequence.frames.names]
    return digest(paths) if all(path.is_file() for path in paths) else None


def _evaluate(
    segmenter: Segmenter | UnsupervisedSegmenter,
    sequence: Sequence,
    dataset: SequenceFolders,
    folder: Path,
    *,
    boxes: bool,
) -> SequenceScores:
    clock = _Clock(_segmented(segmenter, sequence, boxes=boxes))
    quiet = processes.rank() > 0
    labels = tqdm(clock, sequence.name, len(sequence.frames), unit="frame", disable=quiet)
    if folder.is_symlink():
        raise InputError(f"--out: {folder} is a link; take another folder")
    try:
        write_masks(prepare_output(folder), sequence.frames.names, labels)
    finally:
        sweep(folder)
        with suppress(OSError):
            folder.rmdir()  # if it is empty
    try:
        scores = score_folder(
            folder,
            sequence,
            single_object=dataset.single_object,
            last=dataset.scores_last,
            unsupervised=isinstance(segmenter, UnsupervisedSegmenter),
            seconds=clock.seconds,
        )
    except NothingToScoreError:
        scores = SequenceScores(sequence.name, len(sequence.frames), [], clock.seconds)
    memory = peak_memory(segmenter.device)
    return replace(scores, masks=_masks(folder, sequence), memory=memory)


def _segmented(
    segmenter: Segmenter | UnsupervisedSegmenter, sequence: Sequence, *, boxes: bool
) -> Iterator[Tensor]:
    """The masks of a sequence, which take their time."""
    if isinstance(segmenter, UnsupervisedSegmenter):
        return find_objects(segmenter, sequence.frames)
    given = sequence.given()
    if boxes:
        given = {t: _from_boxes(segmenter, sequence.frames[t], m) for t, m in given.items()}
    return segment_frames(segmenter, sequence.frames, given, from_boxes=boxes)


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
