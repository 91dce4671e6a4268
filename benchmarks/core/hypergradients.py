"""How right is the hypergradient of every adjoint, and what does it cost?

Three hyperparameter problems: ridge regression (a weight for every sample, one decay), logistic
regression (a decay for every feature), and a small network (a weight for every sample, a decay for
every layer). The outer loss is that of held-out data after the inner steps. Its gradient by every
adjoint is compared with fourth-order central differences of the same steps, in double precision;
time and the memory of live tensors are divided by those of Unroll(). Prints a table and writes
hypergradients.json and, with matplotlib, hypergradients.png.

    OMP_NUM_THREADS=1 python -m benchmarks.core.hypergradients [--output FOLDER] [--rounds 3]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from benchmarks.core.memory import LiveTensors

Params = dict[str, Tensor]
BASELINE = "Unroll()"
PAIRS = 16


class Task(NamedTuple):
    """A hyperparameter problem."""

    hyper: Params
    problem: Callable[[Params], il.Problem]
    init: Params
    outer: Callable[[Params], Tensor]
    solver: il.Solver
    steps: int


def _normal(*shape: int, seed: int) -> Tensor:
    make = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=make, dtype=torch.float64)


def _regression(samples: int, features: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy data of a linear function, to fit and held out; half of the fitted ones are worse."""
    x, true = _normal(2 * samples, features, seed=0), _normal(features, seed=1)
    noise = 0.5 * _normal(2 * samples, seed=2)
    noise[: samples // 2] *= 4
    y = x @ true + noise
    return x[:samples], y[:samples], x[samples:], y[samples:]


def ridge() -> Task:
    """A weight for every sample and one decay; hyperparameters are logarithms."""
    x, y, held_x, held_y = _regression(40, 10)

    def problem(hyper: Params) -> il.Problem:
        weights, decay = hyper["weights"].exp(), hyper["decay"].exp()
        return il.Objective(
            lambda p: (weights * (x @ p["w"] - y).square()).mean() + decay * p["w"].square().sum()
        )

    hyper = {"weights": torch.zeros(40).double(), "decay": torch.tensor(-3.0).double()}
    init = {"w": torch.zeros(10).double()}
    return Task(
        *(hyper, problem, init, lambda p: (held_x @ p["w"] - held_y).square().mean()),
        *(il.GradientDescent(0.2), 100),
    )


def logistic() -> Task:
    """A decay for every feature; hyperparameters are logarithms."""
    x, y, held_x, held_y = _regression(60, 20)
    labels, held_labels = y.sign(), held_y.sign()

    def problem(hyper: Params) -> il.Problem:
        decay = hyper["decay"].exp()
        return il.Objective(
            lambda p: F.softplus(-labels * (x @ p["w"])).mean() + (decay * p["w"].square()).sum()
        )

    hyper, init = {"decay": torch.full((20,), -3.0).double()}, {"w": torch.zeros(20).double()}
    return Task(
        *(hyper, problem, init, lambda p: F.softplus(-held_labels * (held_x @ p["w"])).mean()),
        *(il.GradientDescent(1.0, momentum=0.7), 100),
    )


def network() -> Task:
    """A weight for every sample and a decay for both layers; hyperparameters are logarithms."""
    x, y, held_x, held_y = _regression(24, 4)

    def run(p: Params, x: Tensor) -> Tensor:
        return torch.tanh(x @ p["first"]) @ p["second"]

    def problem(hyper: Params) -> il.Problem:
        weights, decay = hyper["weights"].exp(), hyper["decay"].exp()

        def loss(p: Params) -> Tensor:
            fit = (weights * (run(p, x) - y).square()).mean()
            return (
                fit + decay[0] * p["first"].square().sum() + decay[1] * p["second"].square().sum()
            )

        return il.Objective(loss)

    hyper = {"weights": torch.zeros(24).double(), "decay": torch.full((2,), -3.0).double()}
    init = {"first": 0.5 * _normal(4, 8, seed=3), "second": 0.5 * _normal(8, seed=4)}
    return Task(
        *(hyper, problem, init, lambda p: (run(p, held_x) - held_y).square().mean()),
        *(il.Adam(0.03), 150),
    )


TASKS = {"ridge": ridge, "logistic": logistic, "network": network}


def adjoints(steps: int) -> dict[str, il.Adjoint]:
    """The adjoints to compare, by the names that the table has."""
    chunk, quarter = round(steps**0.5), steps // 4
    # Rough solutions are accepted, as the error of the gradient is compared.
    rough: dict[str, Any] = {"accept": float("inf")}
    return {
        BASELINE: il.Unroll(),
        "Unroll(checkpoint=√steps)": il.Unroll(checkpoint=chunk),
        "Auto(memory=100 kB)": il.Auto(1e5),
        "Truncate(steps / 4)": il.Truncate(quarter),
        "OneStep()": il.OneStep(),
        "FiniteDifference()": il.FiniteDifference(),
        "Implicit()": il.Implicit(**rough),
        "Implicit(MINRES())": il.Implicit(il.MINRES(), **rough),
        "Implicit(CG(Jacobi()))": il.Implicit(il.ConjugateGradient(il.Jacobi()), **rough),
        "Implicit(Nystrom(8, 1.0), steps=5)": il.Implicit(il.Nystrom(8, 1.0), steps=5, **rough),
        "Implicit(Neumann(0.2), steps=20)": il.Implicit(il.Neumann(0.2), steps=20, **rough),
    }


def outer_loss(task: Task, hyper: Params, adjoint: il.Adjoint) -> Tensor:
    """The loss of the held-out data after the inner steps."""
    problem = task.problem(hyper)
    value = il.solve(problem, task.init, task.solver, steps=task.steps, adjoint=adjoint).value
    return task.outer(value)


def exact(task: Task, step: float = 1e-3) -> Tensor:
    """The hypergradient by fourth-order central differences, all entries side by side."""
    center = il.trees.ravel(task.hyper, 0)
    columns = []
    for unit in torch.eye(len(center), dtype=center.dtype):
        total = torch.zeros((), dtype=center.dtype)
        for k, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            moved = il.trees.unravel(center + k * step * unit, task.hyper, 0)
            total = total + factor / step * outer_loss(task, moved, il.Detach())
        columns.append(total)
    return torch.stack(columns)


def runs(task: Task) -> dict[str, Callable[[], Tensor]]:
    """What computes the hypergradient in each way, all entries side by side."""

    def gradient(loss: Callable[[Params], Tensor]) -> Tensor:
        hyper = {name: leaf.clone().requires_grad_() for name, leaf in task.hyper.items()}
        parts = torch.autograd.grad(loss(hyper), list(hyper.values()))
        return torch.cat([part.reshape(-1) for part in parts])

    def by(adjoint: il.Adjoint) -> Callable[[], Tensor]:
        return lambda: gradient(lambda hyper: outer_loss(task, hyper, adjoint))

    def smoothed() -> Tensor:
        make = torch.Generator().manual_seed(0)
        return gradient(
            lambda hyper: il.smoothed_loss(
                lambda h: outer_loss(task, h, il.Detach()), hyper, pairs=PAIRS, generator=make
            )
        )

    found = {name: by(adjoint) for name, adjoint in adjoints(task.steps).items()}
    return {**found, f"smoothed_loss(pairs={PAIRS})": smoothed}


def compare(name: str, task: Task, rounds: int) -> list[dict[str, Any]]:
    """A row for every way to the hypergradient, printed too."""
    reference, ways = exact(task), runs(task)
    size, memory, seconds = float(reference.norm()), {}, {way: [] for way in ways}
    gradients = {way: run() for way, run in ways.items()}
    for way, run in ways.items():
        with LiveTensors() as live:
            run()
        memory[way] = live.peak
    for _ in range(rounds):  # in turns, so that a busy machine slows all
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - start)
    rows = []
    print(f"\n{name}, {task.steps} steps, {len(reference)} hyperparameters")
    print(f"{'':36}{'error':>9}{'cosine':>8}{'time':>7}{'memory':>8}")
    for way, gradient in gradients.items():
        ratios = [a / b for a, b in zip(seconds[way], seconds[BASELINE], strict=True)]
        row = {
            "problem": name,
            "way": way,
            "error": float((gradient - reference).norm()) / size,
            "cosine": float(gradient @ reference / gradient.norm()) / size,
            "time": statistics.median(ratios),
            "memory": memory[way] / memory[BASELINE],
            "ms": 1e3 * statistics.median(seconds[way]),
            "live_kb": memory[way] / 2**10,
        }
        rows.append(row)
        print(
            f"{way:36}{row['error']:9.1e}{row['cosine']:8.3f}{row['time']:7.2f}{row['memory']:8.2f}"
        )
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Error over time, and over memory, for each problem."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, axes = plt.subplots(
        2, len(problems), figsize=(4 * len(problems), 7), layout="constrained", squeeze=False
    )
    for column, problem in enumerate(problems):
        for line, cost in enumerate(("time", "memory")):
            part = axes[line][column]
            mine = [row for row in rows if row["problem"] == problem]
            for number, row in enumerate(mine):
                error = max(row["error"], 1e-13)
                marker = "osD^v<>PX*hd"[number % 12]
                part.loglog(row[cost], error, marker, label=row["way"])
            part.xaxis.set_minor_formatter("")
            part.set(title=problem, xlabel=f"{cost}, Unroll() = 1", ylabel="relative error")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "hypergradients"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name, make in TASKS.items() for row in compare(name, make(), arguments.rounds)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "hypergradients.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    plot(rows, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
