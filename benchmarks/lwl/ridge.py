"""How well and how fast does the ridge method segment, by backbone and number of channels?

Segments every third frame of sequences of DAVIS's train split on one thread. Prints a table: J and
F in percent, and the median CPU time of the first frame and of a later one, without reading it.
Writes ridge.json.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.ridge --davis ROOT
    ... --davis ROOT --backbones mobilenet_v2 --channels 32 64 --every 1
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import torch

from innerloop.errors import InputError
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.data import DavisDataset
from innerloop_vos.data import Sequence as Clip
from innerloop_vos.io.files import atomic_path
from innerloop_vos.ridge import RidgeOptions, RidgeSegmenter
from innerloop_vos.scoring import score_sequence

SEQUENCES = [
    "bmx-bumps",
    "boat",
    "dance-jump",
    "hike",
    "hockey",
    "kite-walk",
    "mallard-water",
    "paragliding",
    "scooter-gray",
    "stroller",
]
COLUMNS = ("J&F", "J", "F", "first, s", "later, s")

Row = dict[str, float]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--davis", required=True, metavar="ROOT")
    parser.add_argument("--sequences", nargs="+", default=SEQUENCES, help="names")
    parser.add_argument("--every", type=int, default=3, help="take every such frame of a clip")
    parser.add_argument("--backbones", nargs="+", default=["small", "efficientnet_lite0"])
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "ridge")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    clips = list(DavisDataset(arguments.davis, sequences=arguments.sequences))
    rows: dict[str, Row] = {}
    print(f"{'':26}" + "".join(f"{column:>10}" for column in COLUMNS))
    for name in arguments.backbones:
        network = backbone(name)
        fold_norms(network)
        for channels in arguments.channels:
            segmenter = RidgeSegmenter(network, RidgeOptions(channels=channels))
            row = rows[f"{name}, {channels}"] = measure(segmenter, clips, arguments.every)
            figures = "".join(f"{row[column]:10.2f}" for column in COLUMNS)
            print(f"{name + ', ' + str(channels):26}{figures}", flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with atomic_path(arguments.output / "ridge.json") as temporary:
        measured = {"sequences": arguments.sequences, "every": arguments.every, "rows": rows}
        temporary.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def measure(segmenter: RidgeSegmenter, clips: Sequence[Clip], every: int) -> Row:
    """Segment clips, score them, and take the time.

    Args:
        segmenter: started anew on every clip.
        clips: annotated clips.
        every: take every such frame, from the first.

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
            found.append(segmenter.step(frame) if index else segmenter.start(frame, truths[0]))
            (laters if index else firsts).append(time.process_time() - start)
        scores = score_sequence(clip.name, clip.frames.names[::every], found, truths)
        regions.append(100 * fmean(fmean(each.region) for each in scores.objects))
        contours.append(100 * fmean(fmean(each.contour) for each in scores.objects))
        row[clip.name] = (regions[-1] + contours[-1]) / 2
    figures = (fmean(regions) + fmean(contours)) / 2, fmean(regions), fmean(contours)
    return dict(zip(COLUMNS, (*figures, median(firsts), median(laters)), strict=True)) | row


if __name__ == "__main__":
    main()
