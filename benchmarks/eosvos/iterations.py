"""How many fine-tuning iterations does e-OSVOS need? Fig. 3 of its paper: accuracy, speed over T.

Segments annotated clips after T iterations on their first frames, without online adaptation. The
speed includes the time of fine-tuning. Prints a table and writes iterations.json and, with
matplotlib, iterations.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.eosvos.iterations --weights FILE --davis ROOT \\
        --sequences NAMES [--frames N] [--steps T ...] [--output FOLDER]
"""

import argparse
import json
from pathlib import Path

import torch

from benchmarks.eosvos.parts.measure import Figures, measure, plain_options
from innerloop_vos.data import DavisDataset
from innerloop_vos.eosvos import load_eosvos
from innerloop_vos.io.files import atomic_path
from innerloop_vos.training.validation import Validation

STEPS = (0, 1, 2, 5, 10, 20, 50, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, help="weights of e-osvos")
    parser.add_argument("--davis", required=True, metavar="ROOT")
    parser.add_argument(
        "--sequences", required=True, help="names, separated by commas; not trained on"
    )
    parser.add_argument("--frames", type=int, default=10**6, help="of each, from the first")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, metavar="T")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "iterations"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network, rates = load_eosvos(arguments.weights)
    clips = list(DavisDataset(arguments.davis, sequences=arguments.sequences.split(",")))
    validation = Validation(clips, arguments.frames)
    rows: dict[int, Figures] = {}
    print(f"{'T':>4}{'J&F':>8}{'J':>8}{'F':>8}{'frames/s':>10}")
    for steps in arguments.steps:
        rows[steps] = measure(network, rates, plain_options(steps), validation)
        row = rows[steps]
        print(
            f"{steps:4}{row['J&F']:8.1f}{row['J']:8.1f}{row['F']:8.1f}{row['frames/s']:10.2f}",
            flush=True,
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    with atomic_path(arguments.output / "iterations.json") as temporary:
        measured = {"sequences": arguments.sequences, "frames": arguments.frames, "steps": rows}
        temporary.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    plot(rows, arguments.output / "iterations.png")


def plot(rows: dict[int, Figures], path: Path) -> None:
    """Accuracy over T, and speed on an axis of its own."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, accuracy = plt.subplots(figsize=(6, 3.2), layout="constrained")
    accuracy.plot(list(rows), [row["J&F"] for row in rows.values()], "o-", color="tab:blue")
    accuracy.set_xscale("symlog", linthresh=1)
    accuracy.set_xticks(list(rows), [str(steps) for steps in rows])
    accuracy.set_xlabel("fine-tuning iterations T")
    accuracy.set_ylabel("J&F, %", color="tab:blue")
    speed = accuracy.twinx()
    speed.plot(list(rows), [row["frames/s"] for row in rows.values()], "s--", color="tab:red")
    speed.set_ylabel("frames per second", color="tab:red")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
