"""What do the parts and the settings of LWL contribute? The ablations of its paper, small.

Trains the networks that an ablation compares on low-resolution crops of DAVIS's train split, with
the backbone frozen, and measures them on held-out sequences. table1: end-to-end training, label
encoder, weight predictor; table6: backbone weights; table7: loss; fig7: number of label channels D;
fig8-iterations and fig8-rate: updates; fig9: memory size; table9: search region. The last four
compare settings of one network, which is trained or given (--weights). With the same seed, all rows
see the same mini-sequences, so differences are taken seed by seed. An interrupted call continues
where it stopped. Prints a table and writes ABLATION.json and, with matplotlib,
ABLATION.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.lwl.ablations ABLATION --davis ROOT
    ... table6 --davis ROOT --backbone mobilenet_v2 --backbone-weights IMAGENET VOC
    ... fig9 --davis ROOT --weights FILE --height 480 --width 832 --clip-height 480 --frames 100
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.lwl.parts.cells import measured, trained
from benchmarks.lwl.parts.rows import ABLATIONS
from benchmarks.lwl.parts.table import Table
from benchmarks.parts.clips import SmallClips
from innerloop.errors import InputError
from innerloop_vos.data import DavisDataset
from innerloop_vos.lwl import load_lwl
from innerloop_vos.lwl.training.stages import LOSSES
from innerloop_vos.training.validation import Validation

HELD_OUT = "bear,bmx-bumps,dance-jump,scooter-gray,soccerball"


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ablation", choices=ABLATIONS)
    parser.add_argument("--davis", required=True, metavar="ROOT")
    parser.add_argument("--held-out", default=HELD_OUT, help="sequences (default: %(default)s)")
    parser.add_argument("--every", type=int, default=2, help="take every such frame of a clip")
    parser.add_argument(
        "--frames", type=int, default=20, help="number of frames that each clip is measured on"
    )
    parser.add_argument(
        "--clip-height", type=int, default=192, help="height of the frames, in pixels"
    )
    parser.add_argument("--height", type=int, default=128, help="size of the crops")
    parser.add_argument("--width", type=int, default=224, help="size of the crops")
    parser.add_argument(
        "--search-factor", type=float, default=3.0, help="side of the crops, relative to the object"
    )
    parser.add_argument("--weights", nargs="+", default=[], metavar="FILE", help="trained networks")
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--backbone-weights", nargs="+", default=["default"], metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="steps per training")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--loss", choices=LOSSES, default="cross-entropy")
    parser.add_argument("--decoder-rate", type=float, default=3e-4)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/lwl_ablations"), help="folder of the trainings"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "ablations"
    )
    arguments = parser.parse_args(words)
    rows = ABLATIONS[arguments.ablation]
    minimum = {"every": 1, "frames": 3, "clip_height": 32, "seeds": 1, "steps": 1}
    for name, bound in minimum.items():
        if (value := getattr(arguments, name)) < bound:
            parser.error(f"--{name.replace('_', '-')} should be at least {bound}, got {value}")
    needed = 1 + max(row.backbone_weights for row in rows)
    if len(arguments.backbone_weights) != needed:
        parser.error(f"--backbone-weights: {arguments.ablation} needs {needed} file(s)")
    if arguments.weights and any(row.training != "full" or row.sizes for row in rows):
        parser.error(f"--weights: {arguments.ablation} compares trainings, and cannot take one")
    return arguments


def main(words: list[str] | None = None) -> None:
    arguments = parse(words)
    torch.set_num_threads(1)
    rows = ABLATIONS[arguments.ablation]
    path = arguments.output / f"{arguments.ablation}.json"
    table = Table(path, [row.label for row in rows], configuration(arguments))
    held_out = arguments.held_out.split(",")
    names = DavisDataset(arguments.davis, split="train").names
    if unknown := set(held_out) - set(names):
        raise InputError(f"--held-out: {', '.join(sorted(unknown))} not in DAVIS's train split")

    def clips(chosen: list[str]) -> SmallClips:
        dataset = DavisDataset(arguments.davis, sequences=chosen)
        return SmallClips(dataset, arguments.clip_height, arguments.every)

    validation = Validation(clips(held_out), arguments.frames)
    train = clips([name for name in names if name not in held_out])
    runs = arguments.weights or [f"seed {seed}" for seed in range(arguments.seeds)]
    for seed, run in enumerate(runs):
        for row in rows:
            if run in table.cells[row.label]:
                continue
            print(f"{arguments.ablation}: {row.label}, {run}", file=sys.stderr, flush=True)
            given = bool(arguments.weights)
            network = load_lwl(run) if given else trained(row, seed, train, arguments)
            table.add(row.label, run, measured(network, row, validation, arguments))
        table.show()
        table.draw(path.with_suffix(".png"), lines=arguments.ablation.startswith("fig"))


def configuration(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that a cell depends on."""
    others = ("ablation", "davis", "work", "output", "seeds", "weights")
    found = {name: value for name, value in vars(arguments).items() if name not in others}
    return found | {"backbone_weights": [Path(n).name for n in arguments.backbone_weights]}


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues from here")
