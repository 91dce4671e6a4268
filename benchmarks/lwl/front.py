"""What does a method cost, and what does it give? J&F against CPU time, by preset.

Segments every fourth frame of the sequences that LWL-lite was not trained on, on one thread. Prints
a table: J and F in percent, and the median CPU time of the first frame and of a later one, without
reading it. Writes front.json and draws front.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.front --davis ROOT
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lwl.parts.front import plot_front
from benchmarks.lwl.parts.tracking import add_clip_arguments, compare
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.lwl_lite import SPEEDS, LWLLiteSegmenter, lwl_lite
from innerloop_vos.ridge import RidgeSegmenter
from innerloop_vos.segmenter import Segmenter

SEQUENCES = [
    "bear",
    "bmx-bumps",
    "dance-jump",
    "scooter-gray",
    "soccerball",
    "hockey",
    "kite-walk",
    "mallard-water",
    "paragliding",
    "stroller",
]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_clip_arguments(parser, SEQUENCES)
    parser.set_defaults(every=4)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "front")
    arguments = parser.parse_args(words)
    path = arguments.output / "front.json"
    compare(_segmenters(), arguments, path)
    draw(json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".png"))


def _segmenters() -> Iterator[tuple[str, Segmenter]]:
    features = backbone("efficientnet_lite0")
    fold_norms(features)
    yield "ridge", RidgeSegmenter(features)
    for name, options in SPEEDS.items():
        yield name, LWLLiteSegmenter(lwl_lite("default"), options)
        halved = replace(options, half=True)
        yield f"{name}, bfloat16", LWLLiteSegmenter(lwl_lite("default"), halved)


def draw(content: dict[str, Any], picture: Path) -> None:
    """Draw quality against time; `content` is what `compare` wrote."""
    rows = content["rows"].items()
    plot_front({name: (row["later, s"], row["J&F"]) for name, row in rows}, picture)


if __name__ == "__main__":
    main()
