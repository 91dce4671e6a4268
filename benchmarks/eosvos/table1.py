"""What does each component of e-OSVOS contribute? Table 1 of its paper, at any scale.

Starts from a parent network (`innerloop-vos train e-osvos --phase parent`), finds the single rate
that fine-tunes it best on the held-out sequences (which favours this baseline), and adds component
by component: meta-learned initialisation and one rate, a rate per neuron, another network (usually
with GroupNorm and the Lovász hinge, where --parent has neither), box propagation, online
adaptation. Every row is measured for several seeds of meta-training and of fine-tuning. With
--objects 2 the object of the next clip moves over each clip, so that it has several objects, as in
the paper's DAVIS 2017. As in the paper, first frames are not augmented. An interrupted call
continues where it stopped. Prints a table and writes table1.json and, with matplotlib, table1.png.

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
    "+ a rate per neuron": "neuron",
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
        """Measure, unless the table has the figures already."""
        if name not in self.figures:
            self.figures[name] = measure(network, rates, options, validation)
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")
        print(f"  {name}: J&F {self.figures[name]['J&F']:.1f}", flush=True)
        return self.figures[name]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parent", required=True, help="weights of the parent network")
    parser.add_argument(
        "--modified", help="weights of a parent that takes its place from 'another network' on"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    add_data_arguments(parser)
    parser.add_argument(
        "--measured", help="which of the held-out sequences, separated by commas (default: all)"
    )
    parser.add_argument(
        "--objects", type=int, choices=(1, 2), default=1, help="per measured clip (default: 1)"
    )
    parser.add_argument("--steps", type=int, default=10, help="T, at test time")
    parser.add_argument(
        "--grid", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 2e-2]
    )
    add_training_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "table1")
    return parser.parse_args()


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of meta-training."""
    parser.add_argument("--meta-steps", type=int, default=50, help="of meta-training")
    parser.add_argument("--batch-size", type=int, default=2, help="tasks per meta-step")
    parser.add_argument("--inner-steps", type=int, default=5, help="T, in meta-training")
    parser.add_argument(
        "--init-rates",
        type=float,
        nargs=2,
        default=[3e-4, 1e-3],
        metavar=("ONE", "NEURON"),
        help="outer learning rate of the initialisation, with one rate and with rates per neuron",
    )
    # One rate that is learned falls until the few steps of meta-training do the least harm; the
    # more steps of test time then adapt too little.
    parser.add_argument(
        "--rates-rates",
        type=float,
        nargs=2,
        default=[0.0, 1.0],
        metavar=("ONE", "NEURON"),
        help="outer learning rate of the rates themselves, in units of the best single rate",
    )
    parser.add_argument("--clip", type=float, default=1.0, help="max norm of the meta-gradient")
    parser.add_argument("--paste", type=float, default=0.5)


class Experiment:
    """Measures the parent and the rows on the held-out clips, for one seed at a time."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.table = Table(arguments.work / "measured.json")
        self.sampler, self.validation = held_out(arguments)
        self.parent, _ = load_eosvos(arguments.parent)
        self.init_rates, self.rates_rates = (
            dict(zip(("model", "neuron"), pair, strict=True))
            for pair in (arguments.init_rates, arguments.rates_rates)
        )
        left_out = () if arguments.modified else (MODIFIED,)
        self.rows = [row for row in ROWS if row not in left_out]

    def of_parent(self, rate: float, seed: int) -> Figures:
        """Fine-tune the parent with a single rate."""
        rates = il.LearningRates(self.parent, per="model", init=rate)
        name = f"{PARENT} {rate:g}, seed {seed}"
        return self._measure(name, (self.parent, rates), PARENT, seed)

    def best_rate(self) -> float:
        """The rate of the grid with the highest J&F, the mean over the seeds."""

        def score(rate: float) -> float:
            seeds = range(self.arguments.seeds)
            return statistics.fmean(self.of_parent(rate, seed)["J&F"] for seed in seeds)

        return max(self.arguments.grid, key=score)

    def of_row(self, row: str, best: float, seed: int) -> Figures:
        """Meta-train a row's network and rates, starting from the best single rate."""
        modified = MODIFIED in self.rows and self.rows.index(row) >= self.rows.index(MODIFIED)
        start = self.arguments.modified if modified else self.arguments.parent
        folder = f"{'modified-' if modified else ''}{ROWS[row]}-{seed}"
        settings = self._settings(ROWS[row], best, seed)
        trained = meta_trained(start, settings, self.sampler, self.arguments.work / folder)
        return self._measure(f"{row}, seed {seed}", trained, row, seed)

    def about(self, best: float) -> dict[str, object]:
        """What the figures depend on."""
        return {
            "best single rate": best,
            "sequences": [clip.name for clip in self.validation.clips],
            "frames": self.validation.frames,
            "meta-steps": self.arguments.meta_steps,
            "tasks per meta-step": self.arguments.batch_size,
            "outer learning rates": self.init_rates,
            "outer learning rates of the rates, over the best": self.rates_rates,
            "share of tasks with a pasted object": self.arguments.paste,
        }

    def _measure(
        self, name: str, trained: tuple[EOSVOS, il.LearningRates], row: str, seed: int
    ) -> Figures:
        options = replace(
            plain_options(self.arguments.steps),
            propagated=100 if row in (BOXES, ONLINE) else 0,
            online_interval=5 if row == ONLINE else None,
            seed=seed,
        )
        return self.table.measure(name, *trained, options, self.validation)

    def _settings(self, per: str, best: float, seed: int) -> EOSVOSTrainingSettings:
        return EOSVOSTrainingSettings(
            iterations=self.arguments.meta_steps,
            batch_size=self.arguments.batch_size,
            inner_steps=self.arguments.inner_steps,
            init_rate=self.init_rates[per],
            rates_rate=self.rates_rates[per] * best,
            per=per,
            rate=best,
            clip=self.arguments.clip,
            paste=self.arguments.paste,
            in_order=True,  # as the results here were made
            seed=seed,
        )


def held_out(arguments: argparse.Namespace) -> tuple[Sampler, Validation]:
    """What meta-training draws from, and the clips that are measured."""
    sampler, validation = open_data(arguments, 2, 10_000, arguments.paste)
    if arguments.measured:
        chosen = [c for c in validation.clips if c.name in arguments.measured.split(",")]
        validation = replace(validation, clips=chosen)
    if arguments.objects == 2:
        joined = two_object_clips(validation.clips, validation.frames)
        validation = replace(validation, clips=joined)
    return sampler, validation


def main() -> None:
    """Run the benchmark."""
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    experiment = Experiment(arguments)
    best = experiment.best_rate()
    rows: dict[str, list[Figures]] = {row: [] for row in (PARENT, *experiment.rows)}
    for seed in range(arguments.seeds):
        rows[PARENT].append(experiment.of_parent(best, seed))
        for row in experiment.rows:
            rows[row].append(experiment.of_row(row, best, seed))
        report(rows, experiment.about(best), arguments.output)


def meta_trained(
    parent: str, settings: EOSVOSTrainingSettings, sampler: Sampler, folder: Path
) -> tuple[EOSVOS, il.LearningRates]:
    """Meta-train from the parent, continue a training, or load the trained network."""
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
    """A bar per component, with a dot per seed."""
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
