"""`innerloop-vos segment`: one video, from its first mask or box, or from nothing."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from innerloop.errors import InputError
from innerloop_vos.commands.given import (
    mask_files,
    masks_of_boxes,
    parse_boxes,
    read_corrections,
    read_masks,
)
from innerloop_vos.commands.outputs import check_outputs, check_strays
from innerloop_vos.configuration.arguments import option
from innerloop_vos.io.files import prepare_output
from innerloop_vos.io.frames import Frames, ImageFrames
from innerloop_vos.io.masks import describe
from innerloop_vos.io.video import check_video_path, open_frames, write_video
from innerloop_vos.methods.registry import (
    add_method_arguments,
    build_segmenter,
    build_unsupervised,
)
from innerloop_vos.runs.folder import describe as describe_run
from innerloop_vos.runs.folder import frames_digest, locked, tensor_digest
from innerloop_vos.runs.resuming import find_to, segment_to
from innerloop_vos.runs.segmentation import overlays


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        "Segment one video. The mask of every frame is written to DIR as a palette PNG "
        "named like the frame. Run again with the same arguments, it goes on where it was stopped; "
        "until it is done, the masks lie in DIR/.unfinished."
    )
    parser.add_argument(
        "input", metavar="INPUT", help="folder of image files, quoted glob, or video file"
    )
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--mask",
        action="append",
        metavar="[NAME=]FILE",
        help="mask of the first frame, a PNG with object ids, or 0/255; NAME=FILE: of the frame of "
        "that name, such as 00012, for objects that appear there; a folder: masks that are named "
        "like their frames, of which the first of each object counts; may be given several times",
    )
    start.add_argument(
        "--box",
        action="append",
        metavar="[NAME=]X,Y,W,H",
        help="box of an object in the first frame, in pixels, or in that of a name; may be given "
        "several times, for objects 1, 2 ..., of which the later has the pixels that two share",
    )
    start.add_argument(
        "--unsupervised",
        action="store_true",
        help="find the objects without masks or boxes, with a --method for that",
    )
    parser.add_argument(
        "--correct",
        action="append",
        metavar="NAME=FILE",
        help="true mask of the frame of that name, from which the objects are followed on; known "
        "objects that it does not show are absent there, new ones are added; may be given several "
        "times",
    )
    parser.add_argument(
        "--backwards",
        action="store_true",
        help="segment the frames before the first mask or box too, backwards from it",
    )
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument(
        "--threshold",
        type=int,
        metavar="T",
        help="take what is brighter than T (of 255) in --mask and --correct as object 1",
    )
    reading.add_argument(
        "--binary",
        action="store_true",
        help="take all that is not black in --mask and --correct as object 1",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the masks")
    parser.add_argument("--overlay", metavar="FILE.mp4", help="write the masks over the video, too")
    add_method_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Segment the video; every input is checked before the first output is written."""
    of_masks = {
        "backwards": arguments.backwards,
        "binary": arguments.binary,
        "correct": bool(arguments.correct),
        "threshold": arguments.threshold is not None,
    }
    for name, given in of_masks.items():
        if given and arguments.unsupervised:
            raise InputError(f"{option(name)}: --unsupervised takes no masks or boxes to go by")
    masks, true_masks = (mask_files(words or ()) for words in (arguments.mask, arguments.correct))
    frames = open_frames(arguments.input, without=[*masks, *true_masks])
    _check_places(arguments, frames, masks, true_masks)
    boxes = parse_boxes(arguments.box or (), frames)
    reading = {"threshold": arguments.threshold, "binary": arguments.binary}
    given = read_masks(arguments.mask or (), frames, **reading)
    corrections = read_corrections(
        arguments.correct or (),
        frames,
        [*given, *boxes],
        backwards=arguments.backwards,
        **reading,
    )
    if arguments.overlay:
        check_video_path(arguments.overlay)
        prepare_output(Path(arguments.overlay).parent)
    record = describe_run(arguments, without=("input", "mask", "correct", "overlay"))
    record |= {"input": frames_digest(frames)}
    if corrections:
        record |= {"correct": _digests(frames, corrections)}
    segment: Callable[[Path], None]
    if arguments.unsupervised:
        finder = build_unsupervised(arguments)
        segment = partial(find_to, segmenter=finder, frames=frames, record=record)
    else:
        segmenter = build_segmenter(arguments)
        given = given or masks_of_boxes(segmenter, frames, boxes)
        for index in sorted(given):
            print(f"{frames.names[index]}: {describe(given[index])}")
        for index in sorted(corrections):
            print(f"{frames.names[index]}: corrected, {describe(corrections[index])}")
        if not boxes:  # which the record has as they were given
            record |= {"mask": _digests(frames, given)}
        segment = partial(
            segment_to,
            segmenter=segmenter,
            frames=frames,
            given=given,
            corrections=corrections,
            record=record,
            from_boxes=bool(boxes),
            backwards=arguments.backwards,
        )
    out = prepare_output(arguments.out)
    with locked(out):
        segment(out)
        print(f"{len(frames)} masks in {out}")
        if arguments.overlay:
            pictures = tqdm(overlays(frames, out), "drawing", len(frames), unit="frame")
            write_video(arguments.overlay, pictures, frames.rate)
            print(f"overlay in {arguments.overlay}")


def _digests(frames: Frames, masks: Mapping[int, Tensor]) -> dict[str, str]:
    """What the record of a run has of masks: digests by the names of their frames."""
    return {frames.names[index]: tensor_digest(mask) for index, mask in masks.items()}


def _check_places(
    arguments: argparse.Namespace, frames: Frames, given: list[Path], corrections: list[Path]
) -> None:
    """Check that nothing that is read is written over."""
    images = frames.paths if isinstance(frames, ImageFrames) else [Path(arguments.input)]
    folders = {path.parent for path in images} if isinstance(frames, ImageFrames) else set()
    out = Path(arguments.out)
    masks = [out / f"{name}.png" for name in frames.names]
    files = {"--mask": given, "--correct": corrections, "--weights": [arguments.weights]}
    # Masks among the frames would be taken for frames the next time.
    check_outputs({"--out": [out]}, {"INPUT": [*images, *folders], **files})
    check_outputs({"--overlay": [arguments.overlay]}, {"INPUT": images, **files})
    check_outputs({"--out": masks}, files)
    check_outputs({"--overlay": [arguments.overlay]}, {"--out": [out, *masks]})
    check_strays("--out", out, frames.names, [*given, *corrections])
