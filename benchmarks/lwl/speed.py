"""How long does a frame take, and how much does an object keep, by method?

Segments random frames of 854x480 on one thread; methods take turns, so that a busy machine slows
them alike. Prints medians of CPU seconds: the first frame, and a later one with a full memory, with
one object and with three; and megabytes that each object keeps. Weights do not matter for this.
Writes speed.json and draws speed.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.speed [--frames 5] [--methods lwl_lite ridge]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.io.files import atomic_path
from innerloop_vos.lwl import LWLSegmenter, lwl_resnet50
from innerloop_vos.lwl_lite import LWLLiteSegmenter, lwl_lite
from innerloop_vos.ridge import RidgeSegmenter
from innerloop_vos.segmenter import Segmenter

SIZE = (480, 854)
_FULL = 33
"""Frames after which the largest memory is full: that of `lwl_resnet50`."""


def _ridge() -> Segmenter:
    features = backbone("efficientnet_lite0")
    fold_norms(features)
    return RidgeSegmenter(features)


METHODS: dict[str, Callable[[], Segmenter]] = {
    "lwl_lite": lambda: LWLLiteSegmenter(lwl_lite("imagenet")),
    "ridge": _ridge,
    "lwl_resnet50": lambda: LWLSegmenter(lwl_resnet50()),
}


def clip(objects: int) -> tuple[Tensor, Tensor]:
    """A frame that objects stand out of, and their masks."""
    frame = torch.randint(60, 120, (3, *SIZE), dtype=torch.uint8)
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    for id_ in range(1, objects + 1):
        place = (slice(150, 300), slice(260 * id_ - 180, 260 * id_ - 20))
        mask[place] = id_
        frame[id_ - 1][place] = 250
    return frame, mask


def timed(run: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def kept(state: Any) -> int:
    """Bytes of the tensors in a state."""
    if isinstance(state, Tensor):
        return state.nbytes
    parts = state.values() if isinstance(state, dict) else state
    return sum(map(kept, parts)) if isinstance(state, dict | list | tuple) else 0


def measure(names: list[str], objects: int, frames: int) -> dict[str, dict[str, float]]:
    """Medians for a number of objects, by method."""
    torch.manual_seed(0)
    frame, mask = clip(objects)
    segmenters = {name: METHODS[name]() for name in names}
    firsts: dict[str, list[float]] = {name: [] for name in names}
    laters: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for name, segmenter in segmenters.items():
            firsts[name].append(timed(lambda each=segmenter: each.start(frame, mask)))  # type: ignore[misc]
    for segmenter in segmenters.values():
        for _ in range(_FULL):
            segmenter.step(frame)
    for _ in range(frames):
        for name, segmenter in segmenters.items():
            laters[name].append(timed(lambda each=segmenter: each.step(frame)))  # type: ignore[misc]
    return {
        name: {
            "first": median(firsts[name]),
            "later": median(laters[name]),
            "kept": kept(segmenters[name].learned()) / objects / 1e6,
        }
        for name in names
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=5, help="later frames that are timed")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "speed")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    one, three = (measure(arguments.methods, n, arguments.frames) for n in (1, 3))
    columns = ("first, s", "later, s", "three, s", "MB")
    print(f"{'':16}" + "".join(f"{column:>10}" for column in columns))
    for name in arguments.methods:
        figures = (one[name]["first"], one[name]["later"], three[name]["later"], one[name]["kept"])
        print(f"{name:16}" + "".join(f"{figure:10.2f}" for figure in figures), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    content = {"one object": one, "three objects": three}
    with atomic_path(arguments.output / "speed.json") as path:
        path.write_text(json.dumps(content, indent=1) + "\n")
    draw(content, arguments.output / "speed.png")


def draw(content: dict[str, Any], picture: Path) -> None:
    """Draw the seconds of a frame, one bar for each kind of it; `content` is as written."""
    one, three = content["one object"], content["three objects"]
    kinds = {
        "first frame": [row["first"] for row in one.values()],
        "later frame": [row["later"] for row in one.values()],
        "later frame, three objects": [row["later"] for row in three.values()],
    }
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for place, (kind, seconds) in enumerate(kinds.items()):
        left = [index + 0.27 * (place - 1) for index in range(len(seconds))]
        bars = axes.bar(left, seconds, 0.25, label=kind)
        axes.bar_label(bars, fmt="%.2f", fontsize="small")
    axes.set_xticks(range(len(one)), list(one))
    axes.set(yscale="log", ylabel="CPU seconds")
    axes.legend(fontsize="small")
    with atomic_path(picture) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
