"""How well and how fast does the ridge method segment, by backbone and number of channels?

Segments every third frame of sequences of DAVIS's train split on one thread. Prints a table: J and
F in percent, and the median CPU time of the first frame and of a later one, without reading it.
Writes ridge.json.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.ridge --davis ROOT
    ... --davis ROOT --backbones mobilenet_v2 --channels 32 64 --every 1
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.lwl.parts.tracking import add_clip_arguments, compare
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.ridge import RidgeOptions, RidgeSegmenter

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


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_clip_arguments(parser, SEQUENCES)
    parser.add_argument("--backbones", nargs="+", default=["small", "efficientnet_lite0"])
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "ridge")
    arguments = parser.parse_args(words)
    segmenters = _segmenters(arguments.backbones, arguments.channels)
    compare(segmenters, arguments, arguments.output / "ridge.json")


def _segmenters(
    backbones: Sequence[str], channels: Sequence[int]
) -> Iterator[tuple[str, RidgeSegmenter]]:
    for name in backbones:
        network = backbone(name)
        fold_norms(network)
        for count in channels:
            yield f"{name}, {count}", RidgeSegmenter(network, RidgeOptions(channels=count))


if __name__ == "__main__":
    main()
