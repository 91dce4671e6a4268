"""The data sets by name, and the options that name one and its sequences."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import option
from innerloop_vos.data import DavisDataset, MoseDataset, SequenceFolders, YouTubeVOSDataset
from innerloop_vos.data.splits import sequence_names


@dataclass(frozen=True)
class _Kind:
    open: Callable[..., SequenceFolders]
    split: str


DATASETS = {
    "davis2016": _Kind(partial(DavisDataset, year=2016), "val"),
    "davis2017": _Kind(partial(DavisDataset, year=2017), "val"),
    "youtube-vos": _Kind(YouTubeVOSDataset, "valid"),
    "mose": _Kind(MoseDataset, "valid"),
}
"""How each is opened, and the split that is taken by default."""

TASKS = ("semi-supervised", "unsupervised")
"""Whether the objects are given, or found."""


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a data set and the sequences of it."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--root",
        required=True,
        help="folder of the data set: DAVIS's with JPEGImages, Annotations and ImageSets, or that "
        "of YouTube-VOS or MOSE with a folder per split",
    )
    group.add_argument(
        "--dataset",
        default="davis2016",
        help=f"one of: {', '.join(DATASETS)} (default: davis2016, where all is one object)",
    )
    group.add_argument(
        "--split",
        help="list in DAVIS's ImageSets (default: val), or folder of YouTube-VOS or MOSE "
        "(default: valid)",
    )
    group.add_argument(
        "--resolution",
        help="folder of DAVIS's frames and masks (default: 480p; also 1080p, Full-Resolution)",
    )
    group.add_argument(
        "--all-frames",
        action="store_true",
        help="take the frames between of YouTube-VOS too, those in SPLIT_all_frames",
    )
    group.add_argument(
        "--sequences",
        metavar="A,B",
        help="only these sequences, in place of the split; @lwl-valid: those that LWL's ablations "
        "are measured on, of --split train; @FILE: those in a text file, one a line",
    )


def add_task_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that says whether the objects are given."""
    parser.add_argument(
        "--task",
        default=TASKS[0],
        help=f"one of: {', '.join(TASKS)} (default: %(default)s, where the objects are given where "
        "they appear)",
    )


def is_unsupervised(arguments: argparse.Namespace) -> bool:
    """Whether the option of `add_task_argument` says that no objects are given."""
    if arguments.task not in TASKS:
        raise InputError(f"task: {arguments.task!r}, should be one of {', '.join(TASKS)}")
    return bool(arguments.task == TASKS[1])


def open_dataset(arguments: argparse.Namespace) -> SequenceFolders:
    """Open the data set that the options of `add_dataset_arguments` name."""
    if arguments.dataset not in DATASETS:
        raise InputError(f"dataset: {arguments.dataset!r}, should be one of {', '.join(DATASETS)}")
    kind = DATASETS[arguments.dataset]
    more: dict[str, Any] = {}
    for name, of in (("all_frames", "youtube-vos"), ("resolution", "davis")):
        if given := getattr(arguments, name):
            if not arguments.dataset.startswith(of):
                raise InputError(f"{option(name)} is for {of}, not for {arguments.dataset}")
            more[name] = given
    sequences = sequence_names(arguments.sequences.split(",")) if arguments.sequences else None
    split = arguments.split or kind.split
    return kind.open(arguments.root, split=split, sequences=sequences, **more)
