"""How much faster are several processes that share the tasks of a meta-step?

Every process of torchrun is given the same batches, computes the gradients of its share of the
tasks, and adds them to those of the others in one message. One process, two, four ... take turns,
the others wait; the first step of each turn is not counted. Efficiency is the time of one process
over n times that of n: by the clock, as the min over all steps, and by CPU time, summed over the
processes, which processes that have to share cores do not change. Then a model says what many
processes would take: their compute, measured here, and the textbook cost of a ring all-reduce
over a network that is assumed. Prints both tables, and writes processes.json and processes.png.

    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 4 -m benchmarks.core.processes \\
        --out runs/processes [--tasks 16] [--rounds 5]

Source:
    Patarasuk and Yuan, Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations, J.
    Parallel and Distributed Computing 69(2), 2009 (the ring).
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import distributed as dist

import innerloop as il
from benchmarks.core.maml_speed import OUTER_RATE, Setting, Task, innerloop_task_loss
from innerloop._files import atomic_path, prepare_output
from innerloop.compare.results import machine, versions

STEPS = 3
"""Steps in a turn, of which the first is not counted."""

MODELLED = (1, 8, 64, 512)
MODELLED_TASKS = 512


@dataclass(frozen=True)
class Network:
    """What connects the processes: seconds until a message starts to arrive, bytes per second."""

    latency: float
    bandwidth: float

    def all_reduce(self, processes: int, message: int) -> float:
        """Seconds of a ring all-reduce: 2 (n - 1) messages of an nth of the bytes, one by one."""
        hops = 2 * (processes - 1)
        return hops * (self.latency + message / processes / self.bandwidth)


NETWORKS = {
    "10 Gbit/s, 50 µs": Network(50e-6, 1.25e9),
    "100 Gbit/s, 10 µs": Network(10e-6, 12.5e9),
}
"""Assumed: Ethernet of a cloud, and of a cluster."""


@dataclass(frozen=True)
class Row:
    """A meta-step with a number of processes."""

    processes: int
    seconds: float
    cpu_seconds: float
    message: int
    """Bytes that every process hands to the all-reduce of a step."""


def turn(
    setting: Setting, batch: list[Task], group: dist.ProcessGroup | None
) -> tuple[list[float], list[float], int]:
    """Seconds and CPU seconds of this process for every step, and the bytes of a step's message."""
    torch.manual_seed(0)
    net = setting.net()
    marks: list[tuple[float, float]] = []
    messages: list[int] = []
    all_reduce = dist.all_reduce

    def counted(message: torch.Tensor, **options: Any) -> None:
        messages.append(message.nbytes)
        all_reduce(message, **options)

    def batches() -> Iterator[list[Task]]:
        for _ in range(STEPS):
            marks.append((time.perf_counter(), time.process_time()))
            yield batch
        marks.append((time.perf_counter(), time.process_time()))

    optimizer = torch.optim.Adam(net.parameters(), lr=OUTER_RATE)
    task_loss = innerloop_task_loss(net, setting)
    with mock.patch.object(dist, "all_reduce", counted):
        il.meta_train(task_loss, dict(net.named_parameters()), batches(), optimizer, group=group)
    clock, cpu = ([b - a for a, b in pairwise(x[1:])] for x in zip(*marks, strict=True))
    return clock, cpu, messages[-1] if messages else 0


def measure(setting: Setting, rounds: int) -> list[Row]:
    """A row for 1, 2, 4 ... processes, up to all; called in all of them, which are connected."""
    world, rank = dist.get_world_size(), dist.get_rank()
    sizes = [2**k for k in range(world.bit_length())]
    # One process alone sends nothing, as users run it.
    groups = {n: dist.new_group(list(range(n))) if n > 1 else None for n in sizes}
    torch.manual_seed(1)
    batch = setting.batch()
    least = dict.fromkeys(sizes, (math.inf, math.inf))
    message = dict.fromkeys(sizes, 0)
    for _ in range(rounds):  # in turns, so that a busy machine slows all
        for n, group in groups.items():
            dist.barrier()
            clock, cpu = [0.0] * (STEPS - 1), [0.0] * (STEPS - 1)
            if rank < n:
                clock, cpu, message[n] = turn(setting, batch, group)
            # The slowest process has the time of a step; all have their CPU times.
            slowest, total = torch.tensor(clock).double(), torch.tensor(cpu).double()
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            dist.all_reduce(total)
            found = float(slowest.min()), float(total.min())
            least[n] = min(least[n][0], found[0]), min(least[n][1], found[1])
    return [Row(n, *least[n], message[n]) for n in sizes]


def modelled(per_task: float, message: int) -> list[dict[str, Any]]:
    """Seconds of a step, and efficiency, for many processes and a batch of `MODELLED_TASKS`."""
    rows = []
    for network, cost in NETWORKS.items():
        for n in MODELLED:
            compute = math.ceil(MODELLED_TASKS / n) * per_task
            exchange = cost.all_reduce(n, message)
            whole = compute + exchange
            efficiency = MODELLED_TASKS * per_task / (n * whole)
            rows.append(
                {
                    "network": network,
                    "processes": n,
                    "seconds": whole,
                    "exchange": exchange,
                    "efficiency": efficiency,
                }
            )
    return rows


def report(rows: list[Row], setting: Setting) -> dict[str, Any]:
    """Print both tables; returns them."""
    one = rows[0]
    print(f"{'processes':>9}{'s per step':>12}{'efficiency':>12}{'by CPU time':>13}{'bytes':>10}")
    measured = []
    for row in rows:
        n = row.processes
        entry = {
            **asdict(row),
            "efficiency": one.seconds / (n * row.seconds),
            "cpu_efficiency": one.cpu_seconds / row.cpu_seconds,
        }
        measured.append(entry)
        print(
            f"{n:9}{row.seconds:12.3f}{entry['efficiency']:12.2f}{entry['cpu_efficiency']:13.2f}"
            f"{row.message:10}"
        )
    # Of one process, so that waiting for others is not in it; the outer step is.
    per_task, message = one.cpu_seconds / setting.tasks, rows[-1].message
    print(f"\nmodel: {MODELLED_TASKS} tasks of {1e3 * per_task:.0f} ms, {message} bytes")
    print(f"{'network':20}{'processes':>10}{'s per step':>12}{'exchange ms':>13}{'efficiency':>12}")
    model = modelled(per_task, message)
    for line in model:
        print(
            f"{line['network']:20}{line['processes']:10}{line['seconds']:12.3f}"
            f"{1e3 * line['exchange']:13.1f}{line['efficiency']:12.3f}"
        )
    return {"tasks": setting.tasks, "per_task": per_task, "measured": measured, "model": model}


def plot(content: dict[str, Any], path: Path) -> None:
    """Efficiency over processes: measured and modelled."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    measured = content["measured"]
    numbers = [row["processes"] for row in measured]
    axes.plot(numbers, [row["cpu_efficiency"] for row in measured], "o-", label="CPU time")
    axes.plot(numbers, [row["efficiency"] for row in measured], "s--", label="clock")
    for network in NETWORKS:
        rows = [row for row in content["model"] if row["network"] == network]
        numbers = [row["processes"] for row in rows]
        axes.plot(numbers, [row["efficiency"] for row in rows], "^:", label=f"model, {network}")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="processes", ylabel="efficiency", ylim=(0, 1.1))
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and plot")
    parser.add_argument("--tasks", type=int, default=16, help="tasks per meta-step (default 16)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start it with torchrun --standalone --nproc-per-node 4 -m ...")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    setting = Setting(tasks=arguments.tasks, shots=1, queries=5, steps=3)
    rows = measure(setting, arguments.rounds)
    if dist.get_rank() == 0:
        out = prepare_output(arguments.out)
        content = {"machine": machine(), "versions": versions(), **report(rows, setting)}
        with atomic_path(out / "processes.json") as path:
            path.write_text(json.dumps(content, indent=1) + "\n")
        plot(content, out / "processes.png")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
