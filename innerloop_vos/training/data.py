"""What the trainings of all methods are trained on and measured on, from the command line."""

import argparse
from collections.abc import Sequence
from typing import Any

from torch.utils.data import ConcatDataset

from innerloop.errors import InputError
from innerloop_vos.configuration.options import MOST
from innerloop_vos.data import CocoDataset, DavisDataset, FolderDataset, SequenceFolders
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.data.pasting import PastingSampler
from innerloop_vos.data.sampling import ClipSampler, MixedSampler, Sampler
from innerloop_vos.data.youtube_vos import YouTubeVOSDataset
from innerloop_vos.training.validation import Validation


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers with commas or colons between them."""
    return tuple(float(part) for part in text.replace(":", ",").split(","))


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name for name in text.split(",") if name]


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which clips are trained on and which are held out.

    Args:
        parser: receives the options; `open_data` takes what it parses.
    """
    group = parser.add_argument_group("data")
    group.add_argument("--davis", metavar="ROOT", help="folder of DAVIS, whose train split is used")
    group.add_argument("--year", type=int, default=2016, help="of DAVIS (default: %(default)s)")
    group.add_argument("--youtube-vos", metavar="ROOT", help="folder of YouTube-VOS; as --davis")
    group.add_argument(
        "--clips", metavar="ROOT", help="clips of your own: JPEGImages/SEQ and Annotations/SEQ"
    )
    group.add_argument(
        "--coco",
        metavar="ROOT",
        help="folder of COCO, whose train2017 images augmentation turns into clips",
    )
    group.add_argument(
        "--ratio",
        type=numbers,
        default=(6.0, 1.0, 1.0, 1.0),
        metavar="Y:D:C:I",
        help="how often a task is of YouTube-VOS, DAVIS, --clips or COCO's images, where several "
        "are given (default: 6:1:1:1)",
    )
    group.add_argument(
        "--held-out",
        type=names,
        default=[],
        metavar="NAMES",
        help="sequences of these to measure on instead, by commas",
    )
    group.add_argument(
        "--held-out-frames",
        type=int,
        default=20,
        help="how many frames of each (default: %(default)s)",
    )


def open_data(
    arguments: argparse.Namespace, length: int, window: int, paste: float
) -> tuple[PastingSampler, Validation]:
    """Open the clips that the command line names, and COCO's images.

    Args:
        arguments: what a parser with `add_data_arguments` parsed.
        length: frames of a mini-sequence.
        window: frames of the clip that they come from.
        paste: share of the mini-sequences that an object of another clip is pasted into.

    Returns:
        What draws mini-sequences of the clips to train on, and the held-out clips.

    Raises:
        InputError: a folder is not laid out so, a held-out sequence is not there, or nothing is
            given or left to train on.
    """
    given, validation = _open(arguments)
    samplers: list[tuple[Sampler, float]] = [
        (ClipSampler(dataset, length, window), share) for dataset, share in given
    ]
    if arguments.coco:
        share = _ratio(arguments)[3]
        samplers.append((ClipSampler(CocoDataset(arguments.coco), length, least=1), share))
    if not samplers:
        raise InputError("--held-out: no sequence is left to train on")
    mixed = MixedSampler(*zip(*samplers, strict=True))
    return PastingSampler(mixed, paste), validation


def open_clips(arguments: argparse.Namespace) -> tuple[Sequence[Clip], Validation]:
    """Open the clips that the command line names, to train on each as a whole.

    Args:
        arguments: what a parser with `add_data_arguments` parsed.

    Returns:
        The clips to train on, each opened when it is asked for, and the held-out clips.

    Raises:
        InputError: as `open_data`, or COCO was given.
    """
    if arguments.coco:
        raise InputError("--coco: this training follows objects through clips, not images")
    given, validation = _open(arguments)
    if not given:
        raise InputError("--held-out: no sequence is left to train on")
    datasets: list[Any] = [dataset for dataset, _ in given]
    clips: Any = ConcatDataset(datasets)
    return clips, validation


def _open(arguments: argparse.Namespace) -> tuple[list[tuple[SequenceFolders, float]], Validation]:
    """The sets of clips that are given, without those held out, with their shares."""
    if arguments.held_out_frames < 3:
        raise InputError(
            f"--held-out-frames should be at least 3, got {arguments.held_out_frames}: the first "
            "and the last are not scored"
        )
    if arguments.held_out_frames > MOST:
        raise InputError(f"--held-out-frames should be at most {MOST}")
    if arguments.year not in (2016, 2017):
        raise InputError(f"--year should be 2016 or 2017, got {str(arguments.year)[:50]}")
    given: list[tuple[SequenceFolders, float]] = []
    ratio = _ratio(arguments)
    if not all(0 <= share <= MOST for share in ratio) or len(arguments.ratio) > 4:
        raise InputError("--ratio should be up to four numbers, such as 6:1:1:1")
    if arguments.youtube_vos:
        given.append((YouTubeVOSDataset(arguments.youtube_vos), ratio[0]))
    if arguments.davis:
        given.append((DavisDataset(arguments.davis, arguments.year, split="train"), ratio[1]))
    if arguments.clips:
        given.append((FolderDataset(arguments.clips), ratio[2]))
    if not given and not arguments.coco:
        raise InputError(
            "there is nothing to train on: give --davis, --youtube-vos, --clips, --coco or several"
        )
    held_out = {
        name: dataset[name]
        for name in arguments.held_out
        for dataset, _ in given
        if name in dataset.names
    }
    if unknown := sorted(set(arguments.held_out) - held_out.keys()):
        raise InputError(f"--held-out: {', '.join(unknown)} not among the sequences to train on")
    for dataset, _ in given:
        dataset.names = [name for name in dataset.names if name not in held_out]
    validation = Validation(list(held_out.values()), arguments.held_out_frames)
    return [pair for pair in given if pair[0].names], validation


def _ratio(arguments: argparse.Namespace) -> tuple[float, ...]:
    return (*arguments.ratio, 1.0, 1.0, 1.0)
