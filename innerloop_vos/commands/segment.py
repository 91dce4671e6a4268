"""`innerloop-vos segment`: one video from its first mask or box."""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from innerloop.errors import InputError
from innerloop_vos.commands.outputs import check_outputs, check_strays
from innerloop_vos.io.files import prepare_output
from innerloop_vos.io.frames import Frames, ImageFrames
from innerloop_vos.io.masks import box_to_mask, check_mask, describe, parse_box, read_mask
from innerloop_vos.io.video import check_video_path, open_frames, write_video
from innerloop_vos.methods.registry import add_method_arguments, build_segmenter
from innerloop_vos.runs.folder import describe as describe_run
from innerloop_vos.runs.folder import frames_digest, locked
from innerloop_vos.runs.resuming import segment_to
from innerloop_vos.runs.segmentation import overlays
from innerloop_vos.segmenter import Segmenter


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
        "--mask", metavar="FILE", help="mask of the first frame: a PNG with object ids, or 0/255"
    )
    start.add_argument(
        "--box",
        action="append",
        metavar="X,Y,W,H",
        help="box of an object in the first frame, in pixels; may be given several times, for "
        "objects 1, 2 ..., of which the later has the pixels that two share",
    )
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument(
        "--threshold",
        type=int,
        metavar="T",
        help="take what is brighter than T (of 255) in --mask as object 1",
    )
    reading.add_argument(
        "--binary", action="store_true", help="take all that is not black in --mask as object 1"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the masks")
    parser.add_argument("--overlay", metavar="FILE.mp4", help="write the masks over the video, too")
    add_method_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Segment the video; every input is checked before the first output is written."""
    frames = open_frames(arguments.input, without=arguments.mask)
    _check_places(arguments, frames)
    boxes = [parse_box(box) for box in arguments.box or ()]
    for box in boxes:
        box_to_mask(box, frames.size)
    if arguments.mask:
        mask = read_mask(arguments.mask, threshold=arguments.threshold, binary=arguments.binary)
        check_mask(mask, frames.size, arguments.mask)
    if arguments.overlay:
        check_video_path(arguments.overlay)
        prepare_output(Path(arguments.overlay).parent)
    segmenter = build_segmenter(arguments)
    out = prepare_output(arguments.out)

    def start(frame: Tensor) -> Tensor:
        labels = _from_boxes(segmenter, frame, boxes) if boxes else mask
        print(describe(labels))
        return segmenter.start(frame, labels, from_boxes=bool(boxes))

    record = describe_run(arguments, without=("input", "overlay"))
    record |= {"input": frames_digest(frames)}
    with locked(out):
        segment_to(out, segmenter, frames, start, record)
        print(f"{len(frames)} masks in {out}")
        if arguments.overlay:
            pictures = tqdm(overlays(frames, out), "drawing", len(frames), unit="frame")
            write_video(arguments.overlay, pictures, frames.rate)
            print(f"overlay in {arguments.overlay}")


def _check_places(arguments: argparse.Namespace, frames: Frames) -> None:
    """Check that nothing that is read is written over."""
    images = frames.paths if isinstance(frames, ImageFrames) else [Path(arguments.input)]
    folders = {path.parent for path in images} if isinstance(frames, ImageFrames) else set()
    out = Path(arguments.out)
    masks = [out / f"{name}.png" for name in frames.names]
    files = {"--mask": [arguments.mask], "--weights": [arguments.weights]}
    # Masks among the frames would be taken for frames the next time.
    check_outputs({"--out": [out]}, {"INPUT": [*images, *folders], **files})
    check_outputs({"--overlay": [arguments.overlay]}, {"INPUT": images, **files})
    check_outputs({"--out": masks}, files)
    check_outputs({"--overlay": [arguments.overlay]}, {"--out": [out, *masks]})
    check_strays("--out", out, frames.names, arguments.mask)


def _from_boxes(
    segmenter: Segmenter, frame: Tensor, boxes: list[tuple[int, int, int, int]]
) -> Tensor:
    """The masks that are found in the boxes, as objects 1, 2 ..."""
    labels = torch.zeros(frame.shape[1:], dtype=torch.uint8)
    for id_, box in enumerate(boxes, start=1):
        labels[segmenter.mask_from_box(frame, box) > 0] = id_
    for id_, box in enumerate(boxes, start=1):
        if not (labels == id_).any():
            raise InputError(
                f"--box {','.join(map(str, box))}: no object of its own was found in this box"
            )
    return labels
