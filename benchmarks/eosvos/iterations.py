"""How many fine-tuning iterations does e-OSVOS need? Fig. 3 of its paper: accuracy, speed over T.

Segments annotated clips after T iterations on their first frames, without online adaptation: with
a parent network at the rate in its file, and with one that was meta-trained from it. The speed
includes the time of fine-tuning. Prints a table and writes iterations.json and, with matplotlib,
iterations.png: means and standard deviations over seeds of fine-tuning.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.eosvos.iterations --parent FILE --meta FILE \\
        --davis ROOT [--sequences NAMES] [--frames N] [--steps T ...] [--output FOLDER]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.eosvos.parts.measure import Summary, measure, over_seeds
from innerloop_vos.data import DavisDataset
from innerloop_vos.eosvos import EOSVOSOptions, load_eosvos
from innerloop_vos.io.files import atomic_path
from innerloop_vos.training.validation import Validation

HELD_OUT = (
    "bear,bmx-bumps,dance-jump,scooter-gray,soccerball,hockey,kite-walk,mallard-water,paragliding,"
    "stroller"
)
STEPS = (0, 1, 2, 5, 10, 20, 50, 100)
Rows = dict[str, dict[str, Summary]]
"""By T, then by measure."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parent", required=True, help="weights of the parent network")
    parser.add_argument("--meta", required=True, help="weights of the meta-trained network")
    parser.add_argument("--davis", required=True, metavar="ROOT")
    parser.add_argument(
        "--sequences",
        default=HELD_OUT,
        help="names, separated by commas; not trained on (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=20, help="of each, from the first")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, metavar="T")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--bfloat16", action="store_true", help="compute the layers in it")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "iterations"
    )
    arguments = parser.parse_args(words)
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    clips = list(DavisDataset(arguments.davis, sequences=arguments.sequences.split(",")))
    validation = Validation(clips, arguments.frames)
    networks: dict[str, Rows] = {"parent": {}, "meta-learned": {}}
    print(f"{'':14}{'T':>4}{'J&F':>14}{'J':>8}{'F':>8}{'frames/s':>10}")
    for steps in arguments.steps:
        for (name, rows), file in zip(
            networks.items(), (arguments.parent, arguments.meta), strict=True
        ):
            network, rates = load_eosvos(file)
            options = [
                EOSVOSOptions(steps=steps, online_interval=None, half=arguments.bfloat16, seed=seed)
                for seed in range(arguments.seeds)
            ]
            row = over_seeds([measure(network, rates, each, validation) for each in options])
            rows[str(steps)] = row
            print(
                f"{name:14}{steps:4}{row['J&F']['mean']:8.1f} ±{row['J&F']['spread']:4.1f}"
                f"{row['J']['mean']:8.1f}{row['F']['mean']:8.1f}{row['frames/s']['mean']:10.2f}",
                flush=True,
            )
        with atomic_path(arguments.output / "iterations.json") as temporary:
            measured = {"sequences": arguments.sequences, "frames": arguments.frames}
            temporary.write_text(
                json.dumps({**measured, "networks": networks}, indent=1), encoding="utf-8"
            )
    plot(networks, arguments.output / "iterations.png")


def plot(networks: dict[str, Rows], path: Path) -> None:
    """Accuracy over T with error bars, and below it speed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, panels = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True, layout="constrained")
    for axes, measured, title in zip(
        panels, ("J&F", "frames/s"), ("J&F, %", "frames per second"), strict=True
    ):
        for name, rows in networks.items():
            found = [row[measured] for row in rows.values()]
            axes.errorbar(
                [int(steps) for steps in rows],
                [each["mean"] for each in found],
                [each["spread"] for each in found],
                fmt="o-",
                capsize=3,
                label=name,
            )
        axes.set_xscale("symlog", linthresh=1)
        axes.set_ylabel(title)
    ticks = max(networks.values(), key=len)
    panels[1].set_xticks([int(steps) for steps in ticks], list(ticks))
    panels[1].set_xlabel("fine-tuning iterations T")
    panels[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
