"""How long does a meta-step of MAML take beside its peers, and how much memory?

Sixteen tasks, 5-way 5-shot, five inner steps that are differentiated, and a net of four
convolutions of width 32 with BatchNorm on 28x28 images; a meta-step is the gradient of the mean
query loss and an Adam step. All libraries take turns within a round, from the same initialisation,
so that a busy machine slows them alike; ratios are medians over rounds. With several threads,
further rows run this library's tasks in parallel; their memory is an upper bound. Checks, in double
precision, that all find the same gradient. Prints a table, and writes maml_speed.json and
maml_speed.png. Needs the peers: `make peers`.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.core.maml_speed --out runs/maml_speed \\
        [--threads 2] [--compile]
"""

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from innerloop.compare.measure import (
    interleaved,
    median_ratio,
    peak_memory,
    relative_error,
    seconds,
    spread,
)
from innerloop.compare.peers import PEERS, Loss, Peer, Task, functional_outcome
from innerloop.compare.results import machine, versions
from innerloop_vos.io.files import atomic_path, prepare_output

OUTER_RATE = 1e-3
SIDE_BY_SIDE = ", threads"
"""Suffix of the rows whose tasks run in parallel, one on each thread."""


@dataclass(frozen=True)
class Setting:
    """The setting of a meta-step, the same for every library."""

    tasks: int = 16
    ways: int = 5
    shots: int = 5
    queries: int = 15
    width: int = 32
    side: int = 28
    steps: int = 5
    rate: float = 0.1
    loss: Loss = F.cross_entropy

    def net(self) -> nn.Sequential:
        """The net of Finn et al., MAML, 2017; BatchNorm by the statistics of each batch."""
        layers: list[nn.Module] = []
        for channels in (1, self.width, self.width, self.width):
            layers += [
                nn.Conv2d(channels, self.width, 3, padding=1),
                nn.BatchNorm2d(self.width, track_running_stats=False),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        features = self.width * (self.side // 16) ** 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, self.ways))

    def batch(self) -> list[Task]:
        """Tasks of random images: what they show does not change the time."""

        def images(count: int) -> tuple[Tensor, Tensor]:
            labels = torch.arange(self.ways).repeat(count)
            return torch.randn(len(labels), 1, self.side, self.side), labels

        return [(*images(self.shots), *images(self.queries)) for _ in range(self.tasks)]


TaskLoss = Callable[[dict[str, Tensor], Task], Tensor]
"""Maps an initialisation and a task to the outer loss."""

MetaStep = Callable[[], object]
"""Leaves the gradient with the parameters of a net and takes an outer step."""


def innerloop_task_loss(net: nn.Module, setting: Setting, compile: bool = False) -> TaskLoss:
    """The query loss of an initialisation on a task."""
    model = il.Adapted(net, buffers="batch_statistics")

    def task_loss(init: dict[str, Tensor], task: Task) -> Tensor:
        support, targets, query, answers = task
        adapted = model.adapt(
            lambda model: setting.loss(model(support), targets),
            il.GradientDescent(setting.rate),
            init=init,
            steps=setting.steps,
            compile=compile,
        )
        return setting.loss(adapted(query), answers)

    return task_loss


def innerloop_step(
    net: nn.Module,
    batch: list[Task],
    setting: Setting,
    mode: Literal["loop", "threads"] = "loop",
    compile: bool = False,
) -> MetaStep:
    """A meta-step with this library."""
    task_loss = innerloop_task_loss(net, setting, compile)
    optimizer = torch.optim.Adam(net.parameters(), lr=OUTER_RATE)
    init = dict(net.named_parameters())
    return lambda: il.meta_train(task_loss, init, [batch], optimizer, mode=mode)


def peer_step(net: nn.Module, batch: list[Task], setting: Setting, peer: Peer) -> MetaStep:
    """A meta-step with a peer, as its own examples take it."""
    optimizer = torch.optim.Adam(net.parameters(), lr=OUTER_RATE)

    def step() -> None:
        optimizer.zero_grad()
        for task in batch:
            torch.autograd.backward(peer.outcome(net, task, setting).loss / len(batch))
        optimizer.step()

    return step


def functional_step(net: nn.Module, batch: list[Task], setting: Setting) -> MetaStep:
    """A meta-step in plain torch.func."""
    optimizer = torch.optim.Adam(net.parameters(), lr=OUTER_RATE)
    names = dict(net.named_parameters())

    def task_loss(start: dict[str, Tensor], task: Task) -> Tensor:
        return functional_outcome(net, start, task, setting).loss

    def step() -> None:
        start = {name: value.detach() for name, value in names.items()}
        optimizer.zero_grad()
        for task in batch:
            for name, gradient in torch.func.grad(task_loss)(start, task).items():
                total = names[name].grad
                share = gradient / len(batch)
                names[name].grad = share if total is None else total + share
        optimizer.step()

    return step


def meta_steps(
    setting: Setting, compiled: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, MetaStep], dict[str, nn.Sequential]]:
    """A meta-step and its net for every library, all nets from the same start."""
    torch.manual_seed(0)
    start = setting.net().to(dtype)
    batch = [(x.to(dtype), y, queries.to(dtype), z) for x, y, queries, z in setting.batch()]
    makers: dict[str, Callable[..., MetaStep]] = {
        "innerloop": innerloop_step,
        **{name: partial(peer_step, peer=peer) for name, peer in PEERS.items()},
        "torch.func": functional_step,
    }
    if compiled:
        makers["innerloop compiled"] = partial(innerloop_step, compile=True)
    if torch.get_num_threads() > 1:
        for name in [name for name in makers if name.startswith("innerloop")]:
            makers[name + SIDE_BY_SIDE] = partial(makers[name], mode="threads")
    nets = {name: copy.deepcopy(start) for name in makers}
    return {name: make(nets[name], batch, setting) for name, make in makers.items()}, nets


@dataclass(frozen=True)
class Measurement:
    """The measurements of one library; `to_best` is its time relative to the fastest peer's."""

    seconds: float
    spread: float
    to_best: float
    first_call: float
    peak_mb: float
    error: float
    times: list[float]


def measure(setting: Setting, rounds: int, compiled: bool) -> dict[str, Measurement]:
    """Memory once, times in turns, and gradients compared."""
    steps, _ = meta_steps(setting, compiled)
    first = {name: seconds(step) for name, step in steps.items()}
    peaks: dict[str, float] = {}
    for name, step in steps.items():
        if name.endswith(SIDE_BY_SIDE):
            # The profiler sees one thread; each needs at most what it needs alone.
            peaks[name] = torch.get_num_threads() * peaks[name.removesuffix(SIDE_BY_SIDE)]
        else:
            peaks[name] = peak_memory(step) / 1e6
    times = interleaved({name: partial(seconds, step) for name, step in steps.items()}, rounds)
    peers = [*PEERS, "torch.func"]
    best = min(peers, key=lambda name: spread(times[name]).median)
    # In double precision: rounding that switches a ReLU changes all later steps.
    doubles, nets = meta_steps(setting, compiled, torch.float64)
    for step in doubles.values():
        step()
    gradients = {name: _gradient(net) for name, net in nets.items()}
    return {
        name: Measurement(
            *spread(times[name]),
            median_ratio(times[name], times[best]),
            first[name],
            peaks[name],
            relative_error(gradients[name], gradients["torch.func"]),
            times[name],
        )
        for name in steps
    }


def _gradient(net: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for table and plot")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=16, help="tasks per meta-step (default 16)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--compile", action="store_true", help="and compiled gradients of the steps"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out = prepare_output(arguments.out)
    found = measure(Setting(tasks=arguments.tasks), arguments.rounds, arguments.compile)

    table = Table("", "s per meta-step", "±", "to best peer", "first call, s", "peak MB", "error")
    for name, row in found.items():
        numbers = (row.seconds, row.spread, row.to_best, row.first_call, row.peak_mb)
        table.add_row(name, *(f"{number:.2f}" for number in numbers), f"{row.error:.0e}")
    console = Console()
    console.print(
        f"{arguments.tasks} tasks, {arguments.threads} threads, torch {torch.__version__}"
    )
    console.print(table)
    with atomic_path(out / "maml_speed.json") as path:
        results = {name: vars(row) for name, row in found.items()}
        document = {
            "machine": machine(),
            "versions": versions(),
            "tasks": arguments.tasks,
            "rounds": arguments.rounds,
            "results": results,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")
    plot(found, out / "maml_speed.png")


def plot(found: dict[str, Measurement], path: Path) -> None:
    """A bar for the time and one for the memory of every library."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 2.5), layout="constrained", sharey=True)
    names = list(found)[::-1]
    panels[0].barh(names, [found[n].seconds for n in names], xerr=[found[n].spread for n in names])
    panels[0].set_xlabel("seconds per meta-step")
    panels[1].barh(names, [found[n].peak_mb for n in names])
    panels[1].set_xlabel("peak memory, MB")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    main()
