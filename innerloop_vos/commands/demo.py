"""`innerloop-vos demo`: the main job on a clip rendered from photographs."""

import argparse
from pathlib import Path

from PIL import Image
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from innerloop.errors import InputError
from innerloop_vos.commands.outputs import check_outputs
from innerloop_vos.configuration.options import MOST
from innerloop_vos.data import FolderDataset, photo_clip
from innerloop_vos.io.drawing import contact_sheet
from innerloop_vos.io.files import atomic_path, prepare_output
from innerloop_vos.io.masks import write_mask
from innerloop_vos.io.video import write_video
from innerloop_vos.methods.registry import add_method_arguments, build_segmenter
from innerloop_vos.runs.folder import locked
from innerloop_vos.runs.segmentation import overlays, segment_frames, write_masks
from innerloop_vos.scoring import score_folder, table
from innerloop_vos.segmenter import Segmenter

_CLIP = "photographs"
_LENGTH = 24
_OVERLAY = "overlay.mp4"
_SHEET = "contact_sheet.png"
_SHEET_FRAMES = 6
_SHEET_COLUMNS = 3


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        "Make a short clip of three moving objects cut out of photographs, segment it from its "
        "first masks, score the result, and draw it. Needs no network and no data."
    )
    parser.add_argument("--out", metavar="DIR", default="demo", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another clip")
    add_method_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Make, segment, score and draw the clip."""
    if not 0 <= arguments.seed <= MOST:
        raise InputError(f"seed: {str(arguments.seed)[:50]}, should be from 0 to {MOST}")
    written = [Path(arguments.out, name) for name in ("", _OVERLAY, _SHEET)]
    check_outputs({"--out": written}, {"--weights": [arguments.weights]})
    segmenter = build_segmenter(arguments)
    frames, masks = photo_clip(length=_LENGTH, seed=arguments.seed)
    out = prepare_output(arguments.out)
    with locked(out):
        _write_clip(out, frames, masks)
        _demonstrate(segmenter, out)


def _demonstrate(segmenter: Segmenter, out: Path) -> None:
    clip = FolderDataset(out)[_CLIP]
    assert clip.masks is not None
    first = clip.masks[0]
    assert first is not None

    labels = segment_frames(segmenter, clip.frames, {0: first})
    results = prepare_output(out / "Results" / _CLIP)
    write_masks(
        results, clip.frames.names, tqdm(labels, "segmenting", len(clip.frames), unit="frame")
    )
    Console().print(table([score_folder(results, clip)]))

    pictures = list(overlays(clip.frames, results))
    write_video(out / _OVERLAY, pictures, rate=12)
    step = len(pictures) // _SHEET_FRAMES
    contact_sheet(
        pictures[::step],
        out / _SHEET,
        columns=_SHEET_COLUMNS,
        width=clip.frames.size[1],  # smaller, the outlines would fade
        captions=clip.frames.names[::step],
    )
    print(f"frames         {out / 'JPEGImages' / _CLIP}")
    print(f"masks          {results}")
    print(f"overlay        {out / _OVERLAY}")
    print(f"contact sheet  {out / _SHEET}")


def _write_clip(root: Path, frames: Tensor, masks: Tensor) -> None:
    """Write the clip as a user's own data would lie: JPEGImages/CLIP and Annotations/CLIP."""
    images = prepare_output(root / "JPEGImages" / _CLIP)
    annotations = prepare_output(root / "Annotations" / _CLIP)
    for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        with atomic_path(images / f"{index:05d}.png") as temporary:
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(temporary)
        write_mask(annotations / f"{index:05d}.png", mask)
