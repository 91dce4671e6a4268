"""Which way of meta-learning recognises new characters best from one drawing of each?

Omniglot, 20-way 1-shot: meta-trains on the background sets that are there, and tests on the 20
official runs, whose alphabets are others. A ridge head, MAML, iMAML of the last layer and learned
rates per neuron (all with this library) and learn2learn's MAML have the same net of four
convolutions, the same start, and the same tasks in the same order. BatchNorm normalises by the
images of a batch, so the 20 test images of a run are seen together. Prints the accuracies on the
runs, and writes omniglot.json and omniglot.png. Needs learn2learn (`make peers`), and a folder with
images_background*.zip and all_runs.zip, which are in the folder `python` of
https://github.com/brendenlake/omniglot.

    OMP_NUM_THREADS=1 python -m benchmarks.core.omniglot --data FOLDER --out runs/omniglot \\
        [--iterations 150] [--seeds 2]

Source:
    Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program
    induction, Science 350(6266), 2015 (the runs).
"""

import argparse
import copy
import io
import json
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import pil_to_tensor

import innerloop as il
from benchmarks.core.maml_peers import (
    Experiment,
    innerloop_loss,
    train_with_innerloop,
    train_with_peer,
)
from benchmarks.core.maml_speed import Setting
from innerloop._files import atomic_path, prepare_output
from innerloop.compare.peers import PEERS, Task
from innerloop.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from data import Tasks, few_shot

WAYS, SIDE = 20, 28

Classify = Callable[[Task], Tensor]
"""Maps a task to the scores (queries, ways) of its query images."""

Learn = Callable[[nn.Sequential, list[Tasks], Experiment], Classify]
"""Meta-trains a net in place, and returns what it has learned."""


def _image(archive: zipfile.ZipFile, name: str) -> Tensor:
    """A drawing (1, 28, 28), ink 1 and paper 0."""
    with Image.open(io.BytesIO(archive.read(name))) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return 1 - pil_to_tensor(small).float() / 255


def _archives(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(
            f"--data: {folder} has no {pattern}, should have images_background*.zip and "
            "all_runs.zip of https://github.com/brendenlake/omniglot"
        )
    return found


def characters(folder: Path) -> list[Tensor]:
    """The drawings (20, 1, 28, 28) of every character of the background sets, which overlap.

    Raises:
        InputError: there is no such set.
    """
    drawings: dict[PurePosixPath, dict[str, Tensor]] = {}
    for path in _archives(folder, "images_background*.zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                place = PurePosixPath(name)
                if place.suffix == ".png":
                    character = place.relative_to(place.parts[0]).parent
                    drawings.setdefault(character, {})[place.name] = _image(archive, name)
    return [torch.stack(list(images.values())) for _, images in sorted(drawings.items())]


def official_runs(folder: Path) -> list[Task]:
    """The one-shot runs: support images, labels, query images and labels; 20 of each.

    Raises:
        InputError: they are not there.
    """
    runs = []
    with zipfile.ZipFile(_archives(folder, "all_runs.zip")[0]) as archive:
        for table in sorted(n for n in archive.namelist() if n.endswith("class_labels.txt")):
            pairs = [line.split() for line in archive.read(table).decode().splitlines() if line]
            classes = sorted(support for _, support in pairs)
            support = torch.stack([_image(archive, name) for name in classes])
            query = torch.stack([_image(archive, name) for name, _ in pairs])
            labels = torch.tensor([classes.index(support) for _, support in pairs])
            runs.append((support, torch.arange(len(classes)), query, labels))
    return runs


def experiment(
    train: list[Tensor], iterations: int, batch: int = 4, width: int = 32, queries: int = 1
) -> Experiment:
    """Tasks of characters, and how MAML learns them."""
    setting = Setting(ways=WAYS, width=width, side=SIDE)
    return Experiment(
        measure="Omniglot, 20-way 1-shot, accuracy in %",
        net=setting.net,
        train=partial(few_shot, train, ways=WAYS, queries=queries),
        test=partial(few_shot, train, ways=WAYS, queries=queries),
        loss=F.cross_entropy,
        score=lambda scores, labels: 100 * (scores.argmax(-1) == labels).float().mean(),
        rate=0.4,
        steps=2,
        iterations=iterations,
        batch=batch,
        outer_rate=5e-3,
    )


def _classify_by_maml(net: nn.Sequential, experiment: Experiment) -> Classify:
    scores = innerloop_loss(net, experiment, il.Detach())
    init = dict(net.named_parameters())
    return lambda task: scores(init, task, lambda outputs, labels: outputs)


def maml(net: nn.Sequential, batches: list[Tasks], experiment: Experiment) -> Classify:
    """Second-order MAML."""
    train_with_innerloop(net, batches, experiment, mode="loop")
    return _classify_by_maml(net, experiment)


def maml_of_learn2learn(
    net: nn.Sequential, batches: list[Tasks], experiment: Experiment
) -> Classify:
    """The same with learn2learn; tested as ours is, which has the same steps."""
    train_with_peer(net, batches, experiment, PEERS["learn2learn"])
    return _classify_by_maml(net, experiment)


def _train(
    scores: Callable[[Any, Task, il.Adjoint | None], Tensor],
    meta: Any,
    batches: list[Tasks],
    rate: float,
    **options: Any,
) -> Classify:
    """Meta-train by the cross-entropy of the query images."""

    def task_loss(meta: Any, task: Task) -> Tensor:
        return F.cross_entropy(scores(meta, task, None), task[3])

    parameters = [
        parameter
        for node in il.trees.leaves(meta)
        for parameter in (node.parameters() if isinstance(node, nn.Module) else [node])
    ]
    il.meta_train(task_loss, meta, batches, torch.optim.Adam(parameters, lr=rate), **options)
    return lambda task: scores(meta, task, il.Detach())


def imaml_head(
    net: nn.Sequential, batches: list[Tasks], experiment: Experiment, pull: float = 0.1
) -> Classify:
    """Implicit MAML of the last layer: cross-entropy and a decay towards its initialisation.

    This is convex. Over all layers it is not, and a few steps end nowhere near a minimum.
    """
    head = net[-1]
    assert isinstance(head, nn.Linear)

    def scores(meta: Any, task: Task, adjoint: il.Adjoint | None) -> Tensor:
        features, init = meta
        support, query = features(task[0]), features(task[2])

        def loss(values: Mapping[str, Tensor]) -> Tensor:
            away = [(values[name] - init[name]).square().sum() for name in init]
            fit = experiment.loss(F.linear(support, **values), task[1])
            return fit + pull / 2 * torch.stack(away).sum()

        adjoint = adjoint or il.Implicit(tolerance=1e-4)
        values = il.solve(loss, init, il.LBFGS(), steps=12, adjoint=adjoint).value
        return F.linear(query, **values)

    meta = [net[:-1], dict(head.named_parameters())]
    return _train(scores, meta, batches, experiment.outer_rate)


def neuron_rates(net: nn.Sequential, batches: list[Tasks], experiment: Experiment) -> Classify:
    """MAML that learns a learning rate for every neuron, too."""
    rates = il.LearningRates(net, per="neuron", init=experiment.rate)

    def scores(meta: Any, task: Task, adjoint: il.Adjoint | None) -> Tensor:
        net, rates = meta
        adapted: Tensor = il.adapt(
            net,
            lambda model: experiment.loss(model(task[0]), task[1]),
            il.GradientDescent(rates),
            steps=experiment.steps,
            adjoint=adjoint,
        )(task[2])
        return adapted

    return _train(scores, [net, rates], batches, experiment.outer_rate, after_step=rates.clamp_)


def ridge_head(net: nn.Sequential, batches: list[Tasks], experiment: Experiment) -> Classify:
    """Features for a ridge regression in closed form, in place of the net's last layer."""
    head = nn.ParameterDict({"log_regularization": torch.zeros(()), "log_scale": torch.zeros(())})

    def scores(meta: Any, task: Task, adjoint: il.Adjoint | None) -> Tensor:
        features, head = meta
        support, query = features(task[0]), features(task[2])
        problem = il.LinearLeastSquares(
            support,
            F.one_hot(task[1], WAYS).to(support),
            regularization=head["log_regularization"].exp(),
        )
        start = support.new_zeros(WAYS, support.shape[-1])
        weight = il.solve(problem, start, il.Ridge(), adjoint=adjoint).value
        found: Tensor = head["log_scale"].exp() * query @ weight.mT
        return found

    return _train(scores, [net[:-1], head], batches, experiment.outer_rate)


LEARNERS: dict[str, Learn] = {
    "ridge head": ridge_head,
    "MAML": maml,
    "MAML, learn2learn": maml_of_learn2learn,
    "iMAML, last layer": imaml_head,
    "neuron rates": neuron_rates,
}


def accuracies(classify: Classify, runs: list[Task]) -> list[float]:
    """The accuracy in % on every run."""
    return [
        100 * float((classify(task).argmax(-1) == task[3]).float().mean().item()) for task in runs
    ]


def compare(
    train: list[Tensor], runs: list[Task], settings: Experiment, seeds: int
) -> list[dict[str, Any]]:
    """Accuracies of every learner on every run, for every seed; untrained too."""
    rows = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        start = settings.net()
        batches = [settings.train(settings.batch) for _ in range(settings.iterations)]
        for name, learn in LEARNERS.items():
            net, begin = copy.deepcopy(start), time.process_time()
            classify = learn(net, batches, settings)
            seconds = time.process_time() - begin
            untrained = learn(copy.deepcopy(start), [], settings)
            row = {
                "learner": name,
                "seed": seed,
                "accuracies": accuracies(classify, runs),
                "untrained": accuracies(untrained, runs),
                "cpu_seconds": seconds,
            }
            rows.append(row)
            mean = sum(row["accuracies"]) / len(runs)
            print(f"seed {seed}, {name}: {mean:.1f} %, {seconds:.0f} s", flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For every learner the mean, and its spread over runs (means of the seeds) and over seeds."""
    found = {}
    for name in dict.fromkeys(row["learner"] for row in rows):
        mine = [row for row in rows if row["learner"] == name]
        scores = torch.tensor([row["accuracies"] for row in mine], dtype=torch.float64)
        found[name] = {
            "untrained": float(torch.tensor([row["untrained"] for row in mine]).mean()),
            "mean": float(scores.mean()),
            "over_runs": float(scores.mean(0).std(correction=0)),
            "over_seeds": float(scores.mean(1).std(correction=0)),
            "cpu_seconds": sum(row["cpu_seconds"] for row in mine) / len(mine),
        }
    return found


def plot(content: dict[str, Any], path: Path) -> None:
    """A dot for every run, the mean of the seeds; a line for the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = content["rows"]
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for place, name in enumerate(dict.fromkeys(row["learner"] for row in rows)):
        scores = torch.tensor([row["accuracies"] for row in rows if row["learner"] == name])
        means = scores.mean(0).tolist()
        axes.plot([place + 0.01 * (i - len(means) / 2) for i in range(len(means))], means, ".")
        axes.hlines(float(scores.mean()), place - 0.3, place + 0.3, "black")
    axes.set_xticks(range(place + 1), list(dict.fromkeys(row["learner"] for row in rows)))
    axes.tick_params("x", rotation=15)
    axes.set(ylabel="accuracy on a run, %", ylim=(0, 100))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and plot")
    parser.add_argument("--iterations", type=int, default=150, help="outer steps (default 150)")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    import_module(PEERS["learn2learn"].package)  # if it is missing, say so at once
    torch.set_num_threads(1)
    out = prepare_output(arguments.out)
    train, runs = characters(arguments.data), official_runs(arguments.data)
    print(f"{len(train)} characters to train on, {len(runs)} runs")
    settings = experiment(train, arguments.iterations)
    rows = compare(train, runs, settings, arguments.seeds)
    print(f"{'':20}{'untrained':>10}{'accuracy':>10}{'runs ±':>8}{'seeds ±':>9}{'CPU s':>7}")
    for name, line in summary(rows).items():
        print(
            f"{name:20}{line['untrained']:10.1f}{line['mean']:10.1f}{line['over_runs']:8.1f}"
            f"{line['over_seeds']:9.1f}{line['cpu_seconds']:7.0f}"
        )
    content = {"iterations": arguments.iterations, "characters": len(train), "rows": rows}
    with atomic_path(out / "omniglot.json") as path:
        path.write_text(json.dumps(content, indent=1) + "\n")
    plot(content, out / "omniglot.png")


if __name__ == "__main__":
    main()
