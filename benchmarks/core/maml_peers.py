"""Does MAML reach with innerloop what it reaches with higher and with learn2learn?

Meta-trains the same nets from the same starts on the same tasks with each library: sinusoids to
regress, and 5-way 1-shot on handwritten digits. Prints the test results over the seeds, and writes
them as JSON and as a plot. Needs the peers: `make peers`.

    python -m benchmarks.core.maml_peers --out runs/maml_peers [--seeds 5]
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop as il
from innerloop.compare.peers import PEERS, Loss, Peer, Task
from innerloop_vos.io.files import atomic_path, prepare_output

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from data import Digits, Tasks, sinusoids

OuterLoss = Callable[..., Tensor]


@dataclass(frozen=True)
class Experiment:
    """A family of tasks and how MAML learns it; the scores are those of unseen tasks."""

    measure: str
    net: Callable[[], nn.Module]
    train: Callable[[int], Tasks]
    test: Callable[[int], Tasks]
    loss: Loss
    score: Loss
    rate: float
    steps: int
    iterations: int
    batch: int
    outer_rate: float


def sinusoid_experiment() -> Experiment:
    """Regression of a sinusoid from 10 points."""
    return Experiment(
        measure="sinusoid, squared error",
        net=lambda: nn.Sequential(
            nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
        ),
        train=sinusoids,
        test=sinusoids,
        loss=F.mse_loss,
        score=F.mse_loss,
        rate=0.02,
        steps=2,
        iterations=400,
        batch=10,
        outer_rate=5e-3,
    )


def digit_experiment() -> Experiment:
    """5-way 1-shot on digits; tested on mirrored ones."""
    digits = Digits()
    return Experiment(
        measure="digits, accuracy in %",
        net=lambda: nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64, 5)),
        ),
        train=digits,
        test=lambda tasks: digits(tasks, test=True),
        loss=F.cross_entropy,
        score=lambda scores, labels: 100 * (scores.argmax(-1) == labels).float().mean(),
        rate=0.2,
        steps=3,
        iterations=200,
        batch=4,
        outer_rate=3e-3,
    )


def innerloop_loss(net: nn.Module, experiment: Experiment, adjoint: il.Adjoint) -> OuterLoss:
    """The query score of an initialisation on a task, adapted with innerloop."""
    model = il.Adapted(net)

    def task_score(init: dict[str, Tensor], task: Task, score: Loss = experiment.loss) -> Tensor:
        adapted = model.adapt(
            lambda model: experiment.loss(model(task[0]), task[1]),
            il.GradientDescent(experiment.rate),
            init=init,
            steps=experiment.steps,
            adjoint=adjoint,
        )
        return score(adapted(task[2]), task[3])

    return task_score


def train_with_innerloop(
    net: nn.Module, batches: list[Tasks], experiment: Experiment, mode: Literal["loop", "vmap"]
) -> None:
    """Meta-train a net in place."""
    il.meta_train(
        innerloop_loss(net, experiment, il.Unroll()),
        dict(net.named_parameters()),
        batches,
        torch.optim.Adam(net.parameters(), lr=experiment.outer_rate),
        mode=mode,
    )


def train_with_peer(
    net: nn.Module,
    batches: list[Tasks],
    experiment: Experiment,
    peer: Peer,
) -> None:
    """Meta-train a net in place, as the peers' own examples do."""
    optimizer = torch.optim.Adam(net.parameters(), lr=experiment.outer_rate)
    for batch in batches:
        optimizer.zero_grad()
        for task in zip(*batch, strict=True):
            (peer.outcome(net, task, experiment).loss / experiment.batch).backward()
        optimizer.step()


LIBRARIES = ("higher", "learn2learn")
TRAINERS: dict[str, Callable[[nn.Module, list[Tasks], Experiment], None]] = {
    "innerloop, loop": partial(train_with_innerloop, mode="loop"),
    "innerloop, vmap": partial(train_with_innerloop, mode="vmap"),
    **{library: partial(train_with_peer, peer=PEERS[library]) for library in LIBRARIES},
}


def scores_of_seed(experiment: Experiment, seed: int) -> dict[str, tuple[float, float]]:
    """Mean score on 200 test tasks, and seconds of training, for every library and untrained."""
    torch.manual_seed(seed)
    start = experiment.net()
    batches = [experiment.train(experiment.batch) for _ in range(experiment.iterations)]
    test = experiment.test(200)

    def score(net: nn.Module) -> float:
        found = innerloop_loss(net, experiment, il.Detach())
        init = dict(net.named_parameters())
        scores = [found(init, task, experiment.score) for task in zip(*test, strict=True)]
        return torch.stack(scores).mean().item()

    found = {"untrained": (score(start), 0.0)}
    for library, train in TRAINERS.items():
        net = copy.deepcopy(start)
        begin = time.perf_counter()
        train(net, batches, experiment)
        seconds = time.perf_counter() - begin
        found[library] = (score(net), seconds)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/maml_peers"))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for library in LIBRARIES:
        import_module(PEERS[library].package)  # if it is missing, say so at once
    out = prepare_output(arguments.out)
    torch.set_num_threads(1)

    experiments = [sinusoid_experiment(), digit_experiment()]
    table = Table("task", "library", "mean ± std", "max difference of a seed", "ms per iteration")
    results: dict[str, dict[str, list[float]]] = {}
    for experiment in experiments:
        seeds = [scores_of_seed(experiment, seed) for seed in range(arguments.seeds)]
        results[experiment.measure] = {}
        for library in seeds[0]:
            scores = [found[library][0] for found in seeds]
            results[experiment.measure][library] = scores
            apart = max(abs(found[library][0] - found["innerloop, loop"][0]) for found in seeds)
            seconds = sum(found[library][1] for found in seeds) / len(seeds)
            spread = torch.tensor(scores).std(correction=0)
            table.add_row(
                experiment.measure,
                library,
                f"{torch.tensor(scores).mean():.3f} ± {spread:.3f}",
                "" if library in ("untrained", "innerloop, loop") else f"{apart:.3f}",
                f"{1e3 * seconds / experiment.iterations:.0f}" if seconds else "",
            )
    console = Console()
    console.print(f"MAML over {arguments.seeds} seeds, 200 test tasks each")
    console.print(table)
    with atomic_path(out / "maml_peers.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n")
    plot(results, out / "maml_peers.png")
    console.print(f"plot in {out / 'maml_peers.png'}")


def plot(results: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A dot for every seed, a line through the seed's dots."""
    figure, panels = plt.subplots(1, len(results), figsize=(8, 3.5), layout="constrained")
    for axes, (measure, scores) in zip(panels, results.items(), strict=True):
        axes.plot(list(scores), list(scores.values()), marker="o", linewidth=0.8)
        axes.set(title=measure)
        axes.tick_params("x", rotation=30)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    main()
