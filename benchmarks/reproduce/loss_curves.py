"""What do the settings do in which LWL's paper and the released system differ?

Trains a tiny network for 50 iterations as each released stage, and then again from the same weights
with the settings of the paper, one kind at a time and all together. Prints, for each, the factor of
the loss taken out: the first loss, as a multiple of the released stage's; the iteration from which
the curves differ; by how much at most; and the mean loss of the last ten. Writes loss_curves.json
and draws loss_curves.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.reproduce.loss_curves [--iterations 50]
"""

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.reproduce.parts.clips import write_davis
from benchmarks.reproduce.parts.tiny import tiny_lwl
from innerloop_vos.io.files import atomic_path
from innerloop_vos.lwl.training.command import add_lwl_arguments
from innerloop_vos.lwl.training.end_to_end import LWLTraining
from innerloop_vos.lwl.training.stages import STAGES, LWLTrainingSettings
from innerloop_vos.training.data import open_data
from innerloop_vos.training.options import TrainingParser, read_settings

_STAGES = ("stage1", "stage2", "box")
_CLIPS = ("bear", "cat", "dog", "fox")
_SAME = 1e-5
"""Relative difference up to which two losses are the same but for rounding."""


def read(name: str, davis: Path) -> tuple[argparse.Namespace, LWLTrainingSettings]:
    """A configuration as the command `train lwl` reads it, at a tiny size."""
    parser = TrainingParser()
    add_lwl_arguments(parser)
    words = f"--config {name} --davis {davis} --held-out= --out unused"
    tiny = "--batch-size 2 --height 48 --width 64"
    arguments = parser.parse_args(f"{words} {tiny}".split())
    return arguments, read_settings(arguments, STAGES[arguments.stage])


def changes(released: LWLTrainingSettings, paper: LWLTrainingSettings) -> dict[str, dict[str, Any]]:
    """The settings of the paper that differ, by kind: the learning rates are one."""
    theirs, found = asdict(released), dict[str, dict[str, Any]]()
    for name, value in asdict(paper).items():
        if value != theirs[name]:
            kind = "learning rates" if name.endswith("_rate") else name.replace("_", " ")
            found.setdefault(kind, {})[name] = value
    return found


def training(arguments: argparse.Namespace, settings: LWLTrainingSettings) -> LWLTraining:
    """A training of a tiny network on the clips that the arguments name."""
    sampler, validation = open_data(
        arguments,
        1 + settings.test_frames,
        settings.window,
        settings.paste,
        replacement=settings.replacement,
        ratio=settings.ratio,
    )
    network = tiny_lwl(settings.seed, box=settings.box_encoder_rate > 0)
    return LWLTraining(network, sampler, validation, settings)


def losses(task: LWLTraining, iterations: int) -> list[float]:
    """The losses of the first iterations, without the factor of the loss."""
    found = (task.step(iteration)["train/loss"] for iteration in range(iterations))
    return [loss / task.settings.loss_weight for loss in found]


def curves(stage: str, davis: Path, iterations: int) -> dict[str, list[float]]:
    """The curves of a stage: of the released system, of each kind of change, and of the paper."""
    arguments, paper = read(f"lwl-paper-{stage}", davis)
    _, released = read(f"lwl-released-{stage}", davis)
    variants = {"released": released}
    for kind, values in changes(released, paper).items():
        variants[kind] = replace(released, **values)
    variants["paper"] = paper
    return {
        name: losses(training(arguments, settings), iterations)
        for name, settings in variants.items()
    }


def parting(ours: list[float], theirs: list[float]) -> int | None:
    """The first iteration, counted from 1, whose losses differ; None if all are the same."""
    pairs = enumerate(zip(ours, theirs, strict=True), start=1)
    return next((i for i, (a, b) in pairs if abs(a - b) > _SAME * abs(b)), None)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=50)
    default = Path(__file__).parent / "results" / "loss_curves"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    content = {}
    with tempfile.TemporaryDirectory() as folder:
        davis = Path(folder) / "davis"
        write_davis(davis, _CLIPS, 10, (64, 80))
        for stage in _STAGES:
            content[stage] = curves(stage, davis, arguments.iterations)
            print(f"{stage:18}{'first':>8}{'differs from':>14}{'at most':>10}{'last ten':>10}")
            for name, curve in content[stage].items():
                print(_line(name, curve, content[stage]["released"]), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    rounded = {
        stage: {name: [round(loss, 7) for loss in curve] for name, curve in found.items()}
        for stage, found in content.items()
    }
    with atomic_path(arguments.output / "loss_curves.json") as path:
        path.write_text(json.dumps(rounded) + "\n")
    draw(rounded, arguments.output / "loss_curves.png")


def _line(name: str, curve: list[float], released: list[float]) -> str:
    most = max(abs(a - b) for a, b in zip(curve, released, strict=True))
    figures = f"{curve[0] / released[0]:8.4f}{parting(curve, released) or 'never':>14}{most:10.1e}"
    return f"{name:18}{figures}{fmean(curve[-10:]):10.3f}"


def draw(content: dict[str, Any], picture: Path) -> None:
    """Draw the curves, a panel for each stage; `content` is as written."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(content), squeeze=False)[0]
    kinds = list(dict.fromkeys(name for found in content.values() for name in found))
    looks = {name: {"color": f"C{index}", "lw": 1} for index, name in enumerate(kinds)}
    looks |= {"released": {"color": "black", "lw": 2.5}, "paper": {"color": "red", "lw": 2.5}}
    lines = {}
    for axes, (stage, found) in zip(panels, content.items(), strict=True):
        for name, curve in found.items():
            (lines[name],) = axes.plot(range(1, len(curve) + 1), curve, **looks[name])
        axes.set(title=stage, xlabel="iteration")
    panels[0].set_ylabel("loss without its factor")
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=5, fontsize="small")
    with atomic_path(picture) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
