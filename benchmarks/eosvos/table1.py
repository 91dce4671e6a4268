"""What does each component of e-OSVOS contribute? Table 1 of its paper, at any scale.

Starts from a parent network (`innerloop-vos train e-osvos --phase parent`) and adds component by
component: meta-learned initialisation and one rate, a rate per neuron, box propagation, online
adaptation. One more row has a rate per neuron too, but starts from --plain-parent, which was
trained without GroupNorm and the Lovász hinge (--norm none --mask-loss cross-entropy).

Parents and meta-training should be given the same data, so that the rows differ in nothing but
their component. Every row is measured for several T, numbers of objects per clip, and seeds of
meta-training and fine-tuning; first frames are augmented as the segmenter does by default. For
clips of two objects, the object of the next clip moves over each. For every T and number of
objects, the parent has the rate of --grid with the highest J&F on the measured clips, for the first
seed; this favours it. The other rows start from --rate.

The folder --work has one folder per meta-training; one that holds only weights is taken as it is.
An interrupted call continues where it stopped. Prints a table for every T, and writes table1.json
and, with matplotlib, table1.png. Options of the data and of meta-training are those of
`innerloop-vos train e-osvos`.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.eosvos.table1 --parent FILE --work FOLDER \\
        --davis ROOT --held-out NAMES [--steps T ...] [--seeds N] [--output FOLDER]
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

import innerloop as il
from benchmarks.eosvos.parts.measure import Figures, Summary, over_seeds, summary
from benchmarks.eosvos.parts.together import measure_together
from benchmarks.eosvos.parts.two_objects import two_object_clips
from innerloop_vos.data.sampling import Sampler
from innerloop_vos.eosvos import EOSVOS, EOSVOSOptions, load_eosvos
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.eosvos.phases import PHASES, EOSVOSTrainingSettings
from innerloop_vos.eosvos.training import WEIGHTS, EOSVOSTraining
from innerloop_vos.io.files import atomic_path
from innerloop_vos.runs.folder import check_same, digest
from innerloop_vos.training.data import add_data_arguments, open_data
from innerloop_vos.training.loop import CHECKPOINT, run
from innerloop_vos.training.options import add_settings_arguments, read_settings
from innerloop_vos.training.validation import Validation

SETTINGS = replace(PHASES["meta"], iterations=300, init_rate=1e-4, rate=0.003, paste=0.5, clip=5.0)
"""Of meta-training, where the command line has no others."""

FINE_TUNED = EOSVOSOptions(propagated=0, online_interval=None)
PROPAGATED = EOSVOSOptions(online_interval=None)
ADAPTED = EOSVOSOptions()


class Row(NamedTuple):
    """How the network of a row is meta-trained, and how it segments."""

    per: str
    options: EOSVOSOptions = FINE_TUNED
    plain: bool = False


PARENT = "parent, best single rate"
INITIALISATION = "+ initialisation, one rate"
NEURON = "+ a rate per neuron"
PLAIN = "   without GroupNorm, Lovász"
BOXES = "+ box propagation"
ONLINE = "+ online adaptation"
ROWS = {
    INITIALISATION: Row("model"),
    NEURON: Row("neuron"),
    PLAIN: Row("neuron", plain=True),
    BOXES: Row("neuron", PROPAGATED),
    ONLINE: Row("neuron", ADAPTED),
}
COMPONENTS = {
    "meta-learned over parent": (INITIALISATION, PARENT),
    "neuron rates over one rate": (NEURON, INITIALISATION),
    "GroupNorm and Lovász": (NEURON, PLAIN),
    "box propagation": (BOXES, NEURON),
    "online adaptation": (ONLINE, BOXES),
}
"""Each with the row that has it and the row that it is compared with."""


class Case(NamedTuple):
    """Fine-tuning steps at test time, and objects per clip."""

    steps: int
    objects: int

    def __str__(self) -> str:
        return f"T = {self.steps}, {objects(self.objects)}"


def objects(count: int) -> str:
    """A number of objects in words."""
    return f"{count} object{'s' if count > 1 else ''}"


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        allow_abbrev=False,  # --seed is not --seeds
    )
    parser.add_argument("--parent", type=Path, required=True, help="weights of the parent network")
    parser.add_argument(
        "--plain-parent", type=Path, help="weights of one without GroupNorm and Lovász hinge"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    add_data_arguments(parser)
    parser.add_argument(
        "--measured", help="which of the held-out sequences, separated by commas (default: all)"
    )
    parser.add_argument(
        "--objects", type=int, nargs="+", choices=(1, 2), default=[1, 2], help="per measured clip"
    )
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[1, 10, 50, 100], help="T, at test time"
    )
    parser.add_argument(
        "--grid", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 2e-2]
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "table1")
    add_settings_arguments(parser, SETTINGS, without=("per", "seed"))
    return parser.parse_args(words)


class Experiment:
    """Measures parents and rows on the held-out clips, and keeps all figures in a file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.settings = read_settings(arguments, SETTINGS)
        self.sampler, self.clips = held_out(arguments, self.settings)
        self.rows = {n: row for n, row in ROWS.items() if arguments.plain_parent or not row.plain}
        self.about = self._about()
        self.path = arguments.work / "measured.json"
        self.figures: dict[str, Figures] = {}
        if self.path.exists():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            check_same(kept["about"], self.about, str(self.path))
            self.figures = kept["figures"]

    def case(self, case: Case) -> dict[str, Any]:
        """Measure all rows for all seeds: figures by row, and what each component adds."""
        seeds = range(self.arguments.seeds)
        best = self.best_rate(case)
        measured = {PARENT: [self.of_parent(best, case, seed) for seed in seeds]}
        for name in self.rows:
            measured[name] = [self.of_row(name, case, seed) for seed in seeds]
        return {
            **case._asdict(),
            "best single rate": best,
            "rows": {name: over_seeds(figures) for name, figures in measured.items()},
            "gains": {
                component: gain(measured[row], measured[other])
                for component, (row, other) in COMPONENTS.items()
                if row in measured and other in measured
            },
        }

    def best_rate(self, case: Case) -> float:
        """The rate of the grid with the highest J&F of the parent, for the first seed."""
        return max(self.arguments.grid, key=lambda rate: self.of_parent(rate, case, 0)["J&F"])

    def of_parent(self, rate: float, case: Case, seed: int) -> Figures:
        """Fine-tune the parent with a single rate; for the first seed, which is searched, all T."""
        name = f"{PARENT} {rate:g}"

        def start() -> tuple[EOSVOS, il.LearningRates]:
            network, _ = load_eosvos(self.arguments.parent)
            return network, il.LearningRates(network, per="model", init=rate)

        steps = [case.steps] if seed else self.arguments.steps
        return self._measured(name, start, {name: FINE_TUNED}, steps, case, seed)

    def of_row(self, name: str, case: Case, seed: int) -> Figures:
        """Meta-train and fine-tune the network of a row, for all T and all rows that share it."""
        row = self.rows[name]
        sharing = {
            other: found.options
            for other, found in self.rows.items()
            if (found.per, found.plain) == (row.per, row.plain)
        }

        def start() -> tuple[EOSVOS, il.LearningRates]:
            parent = self.arguments.plain_parent if row.plain else self.arguments.parent
            settings = replace(self.settings, per=row.per, seed=seed)
            folder = f"{'plain-' if row.plain else ''}{row.per}-{seed}"
            return meta_trained(parent, settings, self.sampler, self.arguments.work / folder)

        return self._measured(name, start, sharing, self.arguments.steps, case, seed)

    def _measured(
        self,
        name: str,
        start: Callable[[], tuple[EOSVOS, il.LearningRates]],
        sharing: dict[str, EOSVOSOptions],
        steps: list[int],
        case: Case,
        seed: int,
    ) -> Figures:
        def key(name: str, steps: int) -> str:
            return f"{name.strip()}, {case._replace(steps=steps)}, seed {seed}"

        wanted = key(name, case.steps)
        if wanted not in self.figures:
            network, rates = start()
            variants = {
                key(each, count): replace(
                    options, steps=count, half=self.settings.bfloat16, seed=seed
                )
                for each, options in sharing.items()
                for count in steps
                if key(each, count) not in self.figures
            }
            found = measure_together(network, rates, variants, self.clips[case.objects])
            self.figures |= found
            write({"about": self.about, "figures": self.figures}, self.path)
            for each, figures in found.items():
                print(f"  {each}: J&F {figures['J&F']:.1f}", flush=True)
        return self.figures[wanted]

    def _about(self) -> dict[str, Any]:
        """What the figures depend on, besides the case and the seed."""
        settings = asdict(self.settings)
        parents = {"parent": self.arguments.parent, "plain parent": self.arguments.plain_parent}
        return {
            **{name: path and digest([path]) for name, path in parents.items()},
            "sequences": [clip.name for clip in self.clips[1].clips],
            "frames": self.clips[1].frames,
            **{name: value for name, value in settings.items() if name not in ("per", "seed")},
        }


def held_out(
    arguments: argparse.Namespace, settings: EOSVOSTrainingSettings
) -> tuple[Sampler, dict[int, Validation]]:
    """What meta-training draws from, and the measured clips by their number of objects."""
    sampler, validation = open_data(arguments, 2, settings.window, settings.paste)
    if arguments.measured:
        chosen = [c for c in validation.clips if c.name in arguments.measured.split(",")]
        validation = replace(validation, clips=chosen)
    clips = {1: validation}
    if 2 in arguments.objects:
        joined = two_object_clips(validation.clips, validation.frames)
        clips[2] = replace(validation, clips=joined)
    return sampler, clips


def meta_trained(
    parent: Path, settings: EOSVOSTrainingSettings, sampler: Sampler, folder: Path
) -> tuple[EOSVOS, il.LearningRates]:
    """Meta-train from the parent, continue a training, or load the trained network."""
    resume = (folder / CHECKPOINT).exists()
    if resume or not (folder / WEIGHTS).exists():
        torch.manual_seed(settings.seed)  # the first rates
        network, _ = load_eosvos(parent)
        rates = initial_rates(network, per=settings.per, rate=settings.rate)  # type: ignore[arg-type]
        training = EOSVOSTraining(network, rates, sampler, Validation([], 1), settings)
        if not run(training, folder, settings.iterations, every=10, resume=resume):
            raise KeyboardInterrupt
    return load_eosvos(folder / WEIGHTS)


def gain(row: list[Figures], other: list[Figures]) -> Summary:
    """By how much a row exceeds another one in J&F, seed by seed."""
    return summary([a["J&F"] - b["J&F"] for a, b in zip(row, other, strict=True)])


def write(content: object, path: Path) -> None:
    """Write a JSON file."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def show(cases: list[dict[str, Any]]) -> None:
    """Print the cases of one T side by side."""

    def line(title: str, cells: list[str]) -> None:
        print(f"{title:30}" + "".join(f"{cell:>30}" for cell in cells), flush=True)

    line(f"T = {cases[0]['steps']}, J&F", [objects(case["objects"]) for case in cases])
    for row in cases[0]["rows"]:
        found = [case["rows"][row]["J&F"] for case in cases]
        line(row, [f"{each['mean']:.1f} ± {each['spread']:.1f}" for each in found])
    line("best single rate", [f"{case['best single rate']:g}" for case in cases])
    print("gains, seed by seed")
    for component in cases[0]["gains"]:
        gains = [case["gains"][component] for case in cases]
        seeds = [" ".join(f"{value:+.1f}" for value in each["seeds"]) for each in gains]
        cells = [f"{g['mean']:+.1f} ({s})" for g, s in zip(gains, seeds, strict=True)]
        line(component, cells)


def plot(cases: list[dict[str, Any]], path: Path) -> None:
    """A panel per T, in it a bar per row and number of objects, with a dot per seed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    steps = list(dict.fromkeys(case["steps"] for case in cases))
    counts = list(dict.fromkeys(case["objects"] for case in cases))
    height = 0.8 / len(counts)
    figure, panels = plt.subplots(
        1,
        len(steps),
        figsize=(2.5 + 2.5 * len(steps), 3.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for case in cases:
        axes = panels[0, steps.index(case["steps"])]
        shift = counts.index(case["objects"])
        found = [row["J&F"] for row in case["rows"].values()]
        places = [place + shift * height for place in range(len(found))]
        axes.barh(
            places,
            [each["mean"] for each in found],
            height,
            color=f"C{shift}",
            alpha=0.6,
            label=objects(case["objects"]),
        )
        for place, each in zip(places, found, strict=True):
            axes.plot(each["seeds"], [place] * len(each["seeds"]), "k.", markersize=4)
        middle = (len(counts) - 1) * height / 2
        axes.set_yticks([place + middle for place in range(len(found))], list(case["rows"]))
        axes.set_title(f"T = {case['steps']}")
    panels[0, 0].invert_yaxis()
    panels[0, 0].legend(fontsize="small")
    figure.supxlabel("J&F on held-out sequences, %")
    figure.savefig(path, dpi=120)


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    arguments = parse(words)
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    experiment = Experiment(arguments)
    cases: list[dict[str, Any]] = []
    for steps in arguments.steps:
        found = [experiment.case(Case(steps, count)) for count in arguments.objects]
        cases += found
        show(found)
        write({"about": experiment.about, "cases": cases}, arguments.output / "table1.json")
        plot(cases, arguments.output / "table1.png")


if __name__ == "__main__":
    main()
