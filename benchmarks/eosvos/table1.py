"""What does each component of e-OSVOS contribute? Table 1 of its paper, at any scale.

Starts from a parent network (`innerloop-vos train e-osvos --phase parent`), finds the single rate
that fine-tunes it best on the held-out sequences (which favours this baseline), and adds component
by component: meta-learned initialisation and one rate, a rate a neuron, another network (as a rule
with GroupNorm and the Lovász hinge, where --parent has neither), box propagation, online
adaptation. Every row is measured for several seeds, of meta-training and of fine-tuning. With
--objects 2, as in the paper's DAVIS 2017, a clip has several objects: that of the next one moves
over it. As in the paper, first frames are not augmented. A call that was interrupted goes on where
it was. Prints a table and writes table1.json and, with matplotlib, table1.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.eosvos.table1 --parent FILE --work FOLDER \\
        --davis ROOT --held-out NAMES [--meta-steps N] [--seeds N] [--output FOLDER]
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import torch

import innerloop as il
from benchmarks.eosvos.parts.measure import Figures, measure, plain_options
from benchmarks.eosvos.parts.two_objects import two_object_clips
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.eosvos import EOSVOS, EOSVOSOptions, load_eosvos
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.eosvos.phases import EOSVOSTrainingSettings
from innerloop_vos.eosvos.training import WEIGHTS, EOSVOSTraining
from innerloop_vos.io.files import atomic_path
from innerloop_vos.training.data import add_data_arguments, open_data
from innerloop_vos.training.loop import CHECKPOINT, run
from innerloop_vos.training.validation import Validation

PARENT = "parent, best single rate"
MODIFIED = "+ another network"
BOXES = "+ box propagation"
ONLINE = "+ online adaptation"
ROWS = {
    "+ initialisation, one rate": "model",
    "+ a rate a neuron": "neuron",
    MODIFIED: "neuron",
    BOXES: "neuron",
    ONLINE: "neuron",
}
"""Each with the rates that it is meta-trained with."""


class Table:
    """The measurements so far, kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}

    def measure(
        self,
        name: str,
        network: EOSVOS,
        rates: il.LearningRates,
        options: EOSVOSOptions,
        validation: Validation,
    ) -> Figures:
        """Measure, unless that was done before."""
        if name not in self.figures:
            self.figures[name] = measure(network, rates, options, validation)
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")
        print(f"  {name}: J&F {self.figures[name]['J&F']:.1f}", flush=True)
        return self.figures[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parent", required=True, help="weights of the parent network")
    parser.add_argument(
        "--modified", help="weights of a parent that takes its place from 'another network' on"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    add_data_arguments(parser)
    parser.add_argument("--measured", help="of the held-out ones, by commas (default: all)")
    parser.add_argument(
        "--objects", type=int, choices=(1, 2), default=1, help="of a measured clip (default: 1)"
    )
    parser.add_argument("--steps", type=int, default=10, help="T, at test time")
    parser.add_argument(
        "--grid", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 2e-2]
    )
    parser.add_argument("--meta-steps", type=int, default=50, help="of meta-training")
    parser.add_argument("--batch-size", type=int, default=2, help="tasks of a meta-step")
    parser.add_argument("--inner-steps", type=int, default=5, help="T, in meta-training")
    parser.add_argument(
        "--init-rates",
        type=float,
        nargs=2,
        default=[3e-4, 1e-3],
        metavar=("ONE", "NEURON"),
        help="outer learning rate of the initialisation, with one rate and with rates of neurons",
    )
    # One rate that learns falls until the few steps of meta-training do least harm, and has the
    # more steps of test time adapt too little.
    parser.add_argument(
        "--rates-rates",
        type=float,
        nargs=2,
        default=[0.0, 1.0],
        metavar=("ONE", "NEURON"),
        help="outer learning rate of the rates themselves, in units of the best single rate",
    )
    parser.add_argument("--clip", type=float, default=1.0, help="norm of the meta-gradient")
    parser.add_argument("--paste", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "table1")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    table = Table(arguments.work / "measured.json")
    sampler, validation = open_data(arguments, 2, 10_000, arguments.paste)
    if arguments.measured:
        chosen = [c for c in validation.clips if c.name in arguments.measured.split(",")]
        validation = replace(validation, clips=chosen)
    if arguments.objects == 2:
        joined = two_object_clips(validation.clips, validation.frames)
        validation = replace(validation, clips=joined)
    plain = plain_options(arguments.steps)

    def options(row: str, seed: int) -> EOSVOSOptions:
        propagated = 100 if row in (BOXES, ONLINE) else 0
        interval = 5 if row == ONLINE else None
        return replace(plain, propagated=propagated, online_interval=interval, seed=seed)

    parent, _ = load_eosvos(arguments.parent)

    def of_parent(rate: float, seed: int) -> Figures:
        rates = il.LearningRates(parent, per="model", init=rate)
        name = f"{PARENT} {rate:g}, seed {seed}"
        return table.measure(name, parent, rates, options(PARENT, seed), validation)

    seeds = range(arguments.seeds)
    init_rates, rates_rates = (
        dict(zip(("model", "neuron"), pair, strict=True))
        for pair in (arguments.init_rates, arguments.rates_rates)
    )
    best = max(
        arguments.grid,
        key=lambda rate: statistics.fmean(of_parent(rate, seed)["J&F"] for seed in seeds),
    )
    left_out = () if arguments.modified else (MODIFIED,)
    rows: dict[str, list[Figures]] = {row: [] for row in (PARENT, *ROWS) if row not in left_out}
    for seed in seeds:
        rows[PARENT].append(of_parent(best, seed))
        start, kind = arguments.parent, ""
        for row, per in ROWS.items():
            if row not in rows:
                continue
            if row == MODIFIED:
                start, kind = arguments.modified, "modified-"
            settings = EOSVOSTrainingSettings(
                iterations=arguments.meta_steps,
                batch_size=arguments.batch_size,
                inner_steps=arguments.inner_steps,
                init_rate=init_rates[per],
                rates_rate=rates_rates[per] * best,
                per=per,
                rate=best,
                clip=arguments.clip,
                paste=arguments.paste,
                seed=seed,
            )
            folder = arguments.work / f"{kind}{per}-{seed}"
            trained = meta_trained(start, settings, sampler, folder)
            name = f"{row}, seed {seed}"
            rows[row].append(table.measure(name, *trained, options(row, seed), validation))
        about = {
            "best single rate": best,
            "sequences": [clip.name for clip in validation.clips],
            "frames": validation.frames,
            "meta steps": arguments.meta_steps,
            "tasks of a meta step": arguments.batch_size,
            "outer learning rates": init_rates,
            "outer learning rates of the rates, over the best": rates_rates,
            "share of tasks with a pasted object": arguments.paste,
        }
        report(rows, about, arguments.output)


def meta_trained(
    parent: str, settings: EOSVOSTrainingSettings, sampler: Sampler, folder: Path
) -> tuple[EOSVOS, il.LearningRates]:
    """Meta-train from the parent, or go on with it, or take what was trained."""
    if not (folder / WEIGHTS).exists():
        torch.manual_seed(settings.seed)  # the first rates
        network, _ = load_eosvos(parent)
        rates = initial_rates(network, per=settings.per, rate=settings.rate)  # type: ignore[arg-type]
        training = EOSVOSTraining(network, rates, sampler, Validation([], 1), settings)
        resume = (folder / CHECKPOINT).exists()
        if not run(training, folder, settings.iterations, every=10, resume=resume):
            raise KeyboardInterrupt
    return load_eosvos(folder / WEIGHTS)


def report(rows: dict[str, list[Figures]], about: dict[str, object], output: Path) -> None:
    """Print the table, mean and spread over the seeds, and write it with what it is about."""
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    print(f"{'':30}{'J&F':>14}{'J':>8}{'F':>8}{'frames/s':>10}")
    written = dict(about)
    for row, seeds in rows.items():
        mean = {key: statistics.fmean(each[key] for each in seeds) for key in seeds[0]}
        spread = statistics.stdev(s["J&F"] for s in seeds) if len(seeds) > 1 else 0.0
        written[row] = {"seeds": seeds, "mean": mean, "spread": spread}
        print(
            f"{row:30}{mean['J&F']:8.1f} ±{spread:4.1f}{mean['J']:8.1f}{mean['F']:8.1f}"
            f"{mean['frames/s']:10.2f}"
        )
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / "table1.json") as temporary:
        temporary.write_text(json.dumps(written, indent=1), encoding="utf-8")
    plot(rows, output / "table1.png")


def plot(rows: dict[str, list[Figures]], path: Path) -> None:
    """A bar a component, with a dot a seed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for place, seeds in enumerate(rows.values()):
        values = [each["J&F"] for each in seeds]
        axes.barh(place, statistics.fmean(values), color="tab:blue", alpha=0.6)
        axes.plot(values, [place] * len(values), "k.")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel("J&F on held-out sequences, %")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
