"""What does a method cost, and what does it give? J&F against CPU time, by preset.

Segments every fourth frame of the sequences that LWL-lite was not trained on, on one thread. Prints
a table: J and F in percent, and the median CPU time of the first frame and of a later one, without
reading it. Writes front.json and draws front.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.front --davis ROOT
    ... --davis ROOT --methods best [--boxes] --output runs/held-out
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lwl.parts.front import plot_front
from benchmarks.lwl.parts.tracking import HELD_OUT, add_clip_arguments, compare
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.lwl_lite import SPEEDS, LWLLiteOptions, LWLLiteSegmenter, lwl_lite
from innerloop_vos.ridge import RidgeSegmenter
from innerloop_vos.segmenter import Segmenter


def _ridge() -> Segmenter:
    features = backbone("efficientnet_lite0")
    fold_norms(features)
    return RidgeSegmenter(features)


def _lite(options: LWLLiteOptions) -> Segmenter:
    return LWLLiteSegmenter(lwl_lite("default"), options)


METHODS: dict[str, Callable[[], Segmenter]] = {"ridge": _ridge}
for _name, _options in SPEEDS.items():
    METHODS[_name] = partial(_lite, _options)
    METHODS[f"{_name}-half"] = partial(_lite, replace(_options, half=True))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_clip_arguments(parser, HELD_OUT)
    parser.set_defaults(every=4)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "front")
    arguments = parser.parse_args(words)
    path = arguments.output / "front.json"
    compare(((name, METHODS[name]()) for name in arguments.methods), arguments, path)
    draw(json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".png"))


def draw(content: dict[str, Any], picture: Path) -> None:
    """Draw quality against time; `content` is what `compare` wrote."""
    rows = content["rows"].items()
    plot_front({name: (row["later, s"], row["J&F"]) for name, row in rows}, picture)


if __name__ == "__main__":
    main()
