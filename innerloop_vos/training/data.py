"""What the trainings of all methods are trained on and measured on, from the command line."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import add_options, described, read_fields
from innerloop_vos.configuration.options import MOST
from innerloop_vos.data import CocoDataset, DavisDataset, FolderDataset, SequenceFolders
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.data.foreground import ForegroundSampler
from innerloop_vos.data.pasting import PastingSampler
from innerloop_vos.data.sampling import ClipSampler, MixedSampler, Sampler
from innerloop_vos.data.splits import sequence_names
from innerloop_vos.data.tracks import TrackSampler
from innerloop_vos.data.youtube_vos import YouTubeVOSDataset
from innerloop_vos.io.frames import folder_frames
from innerloop_vos.training.validation import UnsupervisedValidation, Validation


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers with commas or colons between them."""
    return tuple(float(part) for part in text.replace(":", ",").split(","))


def described_ratio(default: tuple[float, ...]) -> Any:
    """Declare the field `ratio` of `DataOptions`, or of settings that have it in its place."""
    return described(
        default,
        "how often a task is of YouTube-VOS, DAVIS, --clips (all together) or COCO's images, where "
        "several are given, such as 6:1:1:1",
        type=numbers,
        metavar="Y:D:C:I",
    )


@dataclass(frozen=True)
class DataOptions:
    """Options that say which clips are trained on and which are held out."""

    davis: str | None = described(
        None, "folder of DAVIS, whose train split is used", metavar="ROOT"
    )
    year: int = described(2016, "of DAVIS")
    youtube_vos: str | None = described(None, "folder of YouTube-VOS; as --davis", metavar="ROOT")
    clips: tuple[str, ...] = described(
        (),
        "clips of your own, and images as clips of one frame: JPEGImages/SEQ and Annotations/SEQ "
        "in each of these folders",
        metavar="ROOT,ROOT",
    )
    coco: str | None = described(
        None,
        "folder of COCO, whose train2017 images augmentation turns into clips",
        metavar="ROOT",
    )
    ratio: tuple[float, ...] = described_ratio((6.0, 1.0, 1.0, 1.0))
    held_out: tuple[str, ...] = described(
        (),
        "sequences of these to measure on instead, by commas; @lwl-valid: the 300 of LWL; "
        "@FILE: those in a text file, one a line",
        metavar="NAMES",
    )
    held_out_frames: int = described(20, "how many frames of each")


def add_data_arguments(
    parser: argparse.ArgumentParser, *, year: int = DataOptions.year, without: Sequence[str] = ()
) -> None:
    """Declare `DataOptions`.

    Args:
        parser: receives the options; `open_data` takes what it parses.
        year: of DAVIS, where none is given.
        without: of these options, those that are declared elsewhere.
    """
    add_options(parser.add_argument_group("data"), DataOptions, without=without, year=year)


def open_data(
    arguments: argparse.Namespace,
    length: int,
    window: int,
    paste: float,
    *,
    replacement: bool = True,
    ratio: tuple[float, ...] | None = None,
) -> tuple[PastingSampler, Validation]:
    """Open the clips that the command line names, and COCO's images.

    Args:
        arguments: what a parser with `add_data_arguments` parsed.
        length: frames of a mini-sequence.
        window: frames of the clip that they come from.
        paste: share of the mini-sequences that an object of another clip is pasted into.
        replacement: whether a clip may be drawn again before all others were. Default True.
        ratio: in the place of `DataOptions.ratio`. Default: what was parsed.

    Returns:
        What draws mini-sequences of the clips to train on, and the held-out clips.

    Raises:
        InputError: a folder is not laid out so, a held-out sequence is not there, or nothing is
            given or left to train on.
    """
    options = read_fields(arguments, DataOptions)
    sampler, validation = _mixed(
        options if ratio is None else replace(options, ratio=ratio),
        lambda clips: ClipSampler(clips, length, window, replacement=replacement),
    )
    return PastingSampler(sampler, paste), validation


def open_tracks(
    arguments: argparse.Namespace, length: int, fastest: float, paste: float
) -> tuple[PastingSampler, Validation]:
    """Open the clips that the command line names, and COCO's images, to be tracked.

    Args:
        arguments: what a parser with `add_data_arguments` parsed.
        length: frames of a mini-sequence.
        fastest: greatest speed, in frames of the clip per frame; see `TrackSampler`.
        paste: as in `open_data`.

    Returns:
        As `open_data`.

    Raises:
        InputError: as `open_data`.
    """

    def draw(clips: Sequence[Clip]) -> Sampler:
        return TrackSampler(clips, length, fastest)

    sampler, validation = _mixed(read_fields(arguments, DataOptions), draw)
    return PastingSampler(sampler, paste, hide=True), validation


def open_foreground(
    arguments: argparse.Namespace, length: int
) -> tuple[MixedSampler | None, MixedSampler | None, UnsupervisedValidation]:
    """Open the clips that the command line names, and COCO's images, to find all that they show.

    Args:
        arguments: what a parser with `add_data_arguments` parsed.
        length: frames of a mini-sequence of a video.

    Returns:
        What draws mini-sequences of the videos, what draws single images, each None where there
        are none, and the held-out clips.

    Raises:
        InputError: as `open_data`.
    """
    options = read_fields(arguments, DataOptions)
    given, validation = _open(options)
    videos: list[tuple[Sampler, float]] = []
    images: list[tuple[Sampler, float]] = []
    for dataset, share in given:
        still = [_is_still(dataset, name) for name in dataset.names]
        for kind, among, count in ((videos, False, length), (images, True, 1)):
            clips = [dataset[i] for i, is_still in enumerate(still) if is_still is among]
            if clips:
                kind.append((ForegroundSampler(clips, count), share))
    if options.coco:
        images.append((ForegroundSampler(CocoDataset(options.coco), 1), _ratio(options)[3]))
    if not videos and not images:
        raise InputError("--held-out: no sequence is left to train on")
    both = [MixedSampler(*zip(*kind, strict=True)) if kind else None for kind in (videos, images)]
    return both[0], both[1], UnsupervisedValidation(validation.clips, validation.frames)


def _is_still(dataset: SequenceFolders, name: str) -> bool:
    """Whether a clip is an image; no frame is opened."""
    return len(folder_frames(dataset.frames_root / name)) == 1


def _mixed(
    options: DataOptions, draw: Callable[[Sequence[Clip]], Sampler]
) -> tuple[MixedSampler, Validation]:
    given, validation = _open(options)
    samplers = [(draw(dataset), share) for dataset, share in given]
    if options.coco:
        samplers.append((draw(CocoDataset(options.coco)), _ratio(options)[3]))
    if not samplers:
        raise InputError("--held-out: no sequence is left to train on")
    return MixedSampler(*zip(*samplers, strict=True)), validation


def _open(options: DataOptions) -> tuple[list[tuple[SequenceFolders, float]], Validation]:
    """The sets of clips that are given, without those held out, with their shares."""
    if options.held_out_frames < 3:
        raise InputError(
            f"--held-out-frames should be at least 3, got {options.held_out_frames}: the first "
            "and the last are not scored"
        )
    if options.held_out_frames > MOST:
        raise InputError(f"--held-out-frames should be at most {MOST}")
    if options.year not in (2016, 2017):
        raise InputError(f"--year should be 2016 or 2017, got {str(options.year)[:50]}")
    given: list[tuple[SequenceFolders, float]] = []
    ratio = _ratio(options)
    if not all(0 <= share <= MOST for share in ratio) or len(options.ratio) > 4:
        raise InputError("--ratio should be up to four numbers, such as 6:1:1:1")
    if options.youtube_vos:
        given.append((YouTubeVOSDataset(options.youtube_vos), ratio[0]))
    if options.davis:
        given.append((DavisDataset(options.davis, options.year, split="train"), ratio[1]))
    given += [(FolderDataset(root), ratio[2] / len(options.clips)) for root in options.clips]
    if not given and not options.coco:
        raise InputError(
            "there is nothing to train on: give --davis, --youtube-vos, --clips, --coco or several"
        )
    names = sequence_names(options.held_out)
    held_out = {
        name: dataset[name] for name in names for dataset, _ in given if name in dataset.names
    }
    if unknown := sorted(set(names) - held_out.keys()):
        raise InputError(f"--held-out: {', '.join(unknown)} not among the sequences to train on")
    for dataset, _ in given:
        dataset.names = [name for name in dataset.names if name not in held_out]
    validation = Validation(list(held_out.values()), options.held_out_frames)
    return [pair for pair in given if pair[0].names], validation


def _ratio(options: DataOptions) -> tuple[float, ...]:
    return (*options.ratio, 1.0, 1.0, 1.0)
