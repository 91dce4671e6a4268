"""`innerloop-vos segment`: one video from its first mask or box."""

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from innerloop_vos.files import prepare_output
from innerloop_vos.masks import box_to_mask, check_mask, parse_box, read_mask
from innerloop_vos.methods import add_method_arguments, build_segmenter
from innerloop_vos.resuming import segment_to
from innerloop_vos.runs import describe, frames_digest, locked
from innerloop_vos.segmentation import overlays
from innerloop_vos.video import check_video_path, open_frames, write_video


def add_parser(commands: Any) -> None:
    """Declare the command and its arguments."""
    parser = commands.add_parser(
        "segment",
        help="segment a video from its first mask or box",
        description="Segment one video. The mask of every frame is written to DIR as a palette PNG "
        "named like the frame. Run again with the same arguments, it goes on where it was stopped; "
        "until it is done, the masks lie in DIR/.unfinished.",
    )
    parser.add_argument(
        "input", metavar="INPUT", help="folder of JPEG or PNG frames, quoted glob, or video file"
    )
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--mask", metavar="FILE", help="mask of the first frame: a PNG with object ids, or 0/255"
    )
    start.add_argument(
        "--box", metavar="X,Y,W,H", help="box of one object in the first frame, in pixels"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the masks")
    parser.add_argument("--overlay", metavar="FILE.mp4", help="write the masks over the video, too")
    add_method_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Segment the video; every input is checked before the first output is written."""
    frames = open_frames(arguments.input)
    if arguments.mask:
        mask = read_mask(arguments.mask)
        check_mask(mask, frames.size, arguments.mask)
    else:
        box = parse_box(arguments.box)
        box_to_mask(box, frames.size)
    if arguments.overlay:
        check_video_path(arguments.overlay)
        prepare_output(Path(arguments.overlay).parent)
    segmenter = build_segmenter(arguments)
    out = prepare_output(arguments.out)

    def first() -> Tensor:
        return segmenter.mask_from_box(frames[0], box) if arguments.box else mask

    record = describe(arguments, without=("input", "overlay")) | {"input": frames_digest(frames)}
    with locked(out):
        segment_to(out, segmenter, frames, first, record)
        print(f"{len(frames)} masks in {out}")
        if arguments.overlay:
            pictures = tqdm(overlays(frames, out), "drawing", len(frames), unit="frame")
            write_video(arguments.overlay, pictures, frames.rate)
            print(f"overlay in {arguments.overlay}")
