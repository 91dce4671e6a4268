"""What do steps of LWL's inner solver cost, against the same steps written with autograd?

Fits a filter of 16 outputs to 512 channels of 30x52 pixels, as LWL does: to one frame in 20 steps,
to the 32 frames of a full memory in 3, and in training, through 5 steps with gradients of features,
labels, weights and λ. The plain formulation takes the residual, its adjoint and a Jacobian-vector
product by double backward. All cases take turns in one process, on one thread and on two; peak
memory is measured in one process per case. Prints tables and writes steepest_descent.json and, with
matplotlib, steepest_descent.png.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.core.steepest_descent \\
        [--rounds N] [--output FOLDER] [--parts]

With --parts it prints what the parts of a solve cost on one thread instead, beside the fastest
matrix product, and writes nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop.maps.convolution import channels_last
from innerloop.maps.gram import patch_gram

CHANNELS, OUTPUTS, KERNEL, SIZE = 512, 16, 3, (30, 52)
REGULARIZATION = 1e-4
FLOOR = 1e-8
TOLERANCE = 1e-5
PLAIN, OURS = "autograd", "innerloop"


class Data(NamedTuple):
    """A problem, and where to start."""

    features: Tensor
    labels: Tensor
    weights: Tensor
    regularization: Tensor
    init: Tensor


def make_data(frames: int, warm: bool = False, size: tuple[int, int] = SIZE) -> Data:
    """Random data, of the scale that LWL's projection gives; started from zero unless `warm`."""
    make = torch.Generator().manual_seed(0)
    filters = (OUTPUTS, CHANNELS, KERNEL, KERNEL)
    scale = (CHANNELS * KERNEL**2) ** -0.5
    return Data(
        scale * torch.randn(frames, CHANNELS, *size, generator=make),
        torch.rand(frames, OUTPUTS, *size, generator=make),
        torch.rand(frames, OUTPUTS, *size, generator=make) / frames**0.5,
        torch.tensor(REGULARIZATION),
        torch.randn(filters, generator=make) * 0.1 if warm else torch.zeros(filters),
    )


def plain_steps(data: Data, steps: int, training: bool = False) -> list[Tensor]:
    """Every iterate of steepest descent, by autograd alone."""
    features, labels, weights, regularization, filters = data
    iterates = []
    for _ in range(steps):
        if not training:
            filters = filters.detach().requires_grad_()
        prediction = F.conv2d(features, filters, padding=KERNEL // 2)
        residuals = weights * (prediction - labels), regularization.sqrt() * filters
        seeds = [r if training else r.detach().requires_grad_() for r in residuals]
        (gradient,) = torch.autograd.grad(residuals, filters, seeds, create_graph=True)
        if training:
            # The adjoint again, with a seed that does not depend on the residuals.
            seeds = [torch.zeros_like(r, requires_grad=True) for r in residuals]
            (pulled,) = torch.autograd.grad(residuals, filters, seeds, create_graph=True)
            response = torch.autograd.grad(pulled, seeds, gradient, create_graph=True)
        else:
            response = torch.autograd.grad(gradient, seeds, gradient.detach())
        curvature = torch.stack([part.square().sum() for part in response]).sum()
        filters = filters - gradient.square().sum() / curvature.clamp(min=FLOOR) * gradient
        iterates.append(filters)
    return iterates


def our_steps(
    data: Data, steps: int, adjoint: il.Adjoint, prediction: Tensor | None = None
) -> Tensor:
    """The last iterate, by innerloop."""
    *parts, init = data
    problem, solver = il.ConvLeastSquares(*parts), il.SteepestDescent(FLOOR)
    state = None if prediction is None else il.SolverState(solver, problem, init, prediction)
    value: Tensor = il.solve(problem, init, solver, steps=steps, adjoint=adjoint, state=state).value
    return value


def inference(
    frames: int, steps: int, size: tuple[int, int] = SIZE
) -> dict[str, Callable[[], Tensor]]:
    """The cases of inference, each a function that gives the last iterate."""
    data = make_data(frames, warm=frames > 1, size=size)
    last = data._replace(features=data.features.contiguous(memory_format=torch.channels_last))
    prediction = il.ConvLeastSquares(*data[:4]).predict(data.init)
    for step, iterate in enumerate(plain_steps(data, steps), start=1):
        found = our_steps(last, step, il.Detach(), prediction)
        error = (found - iterate).norm() / iterate.norm()
        assert error < TOLERANCE, (frames, step, error)
    return {
        PLAIN: lambda: plain_steps(data, steps)[-1].detach(),
        f"{PLAIN}, channels last": lambda: plain_steps(last, steps)[-1].detach(),
        OURS: lambda: our_steps(data, steps, il.Detach()),
        f"{OURS}, prediction known": lambda: our_steps(data, steps, il.Detach(), prediction),
        f"{OURS}, both": lambda: our_steps(last, steps, il.Detach(), prediction),
    }


def training(
    frames: int, steps: int, size: tuple[int, int] = SIZE, dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """The cases of training, each a function that gives the gradients."""
    data = Data(*(leaf.to(dtype).requires_grad_() for leaf in make_data(frames, size=size)))
    probe = torch.randn(data.init.shape, generator=torch.Generator().manual_seed(1)).to(dtype)

    def gradients(value: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((value * probe).sum(), data)

    return {
        PLAIN: lambda: gradients(plain_steps(data, steps, training=True)[-1]),
        OURS: lambda: gradients(our_steps(data, steps, il.Unroll())),
    }


def resident_mb(field: str) -> float:
    """Resident memory of this process in MB: now ("VmRSS") or at its peak ("VmHWM")."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def measure_memory(case: str, frames: int, steps: int) -> float:
    """Peak memory of a case of training in this process, above its data and a tiny run."""
    torch.set_num_threads(1)
    training(1, steps, (4, 4))[case]()
    run = training(frames, steps)[case]
    before = resident_mb("VmRSS")
    run()
    return resident_mb("VmHWM") - before


def memory_of(case: str, frames: int, steps: int) -> float:
    """`measure_memory` in a process of its own."""
    command = [sys.executable, __file__, "--memory", case, str(frames), str(steps)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return float(subprocess.run(command, check=True, env=environment, capture_output=True).stdout)


def take_turns(
    runs: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every round of every case."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # the first call sets up what later ones find
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return times


def compare(setting: str, threads: int, times: dict[str, list[float]]) -> list[dict[str, object]]:
    """A row for every case, printed too."""
    rows: list[dict[str, object]] = []
    print(f"\n{setting}, threads: {threads}")
    print(f"{'':30}{'ms':>9}{'min':>9}{'max':>9}{'faster':>9}{'spread':>14}")
    for name, seconds in times.items():
        # Within a round, a busy machine slows both.
        ratios = sorted(a / b for a, b in zip(times[PLAIN], seconds, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        row = {
            "setting": setting,
            "threads": threads,
            "case": name,
            "ms": 1e3 * statistics.median(seconds),
            "ms_min": 1e3 * min(seconds),
            "ms_max": 1e3 * max(seconds),
            "faster": middle,
            "faster_quartiles": [low, high],
        }
        rows.append(row)
        print(
            f"{name:30}{row['ms']:9.1f}{row['ms_min']:9.1f}{row['ms_max']:9.1f}"
            f"{middle:9.2f}{low:9.2f}-{high:.2f}"
        )
    return rows


def parts() -> dict[str, tuple[Callable[[], object], float]]:
    """What both solves of inference are made of, with its billions of operations."""
    features, labels, _, _, init = make_data(32)
    last = channels_last(features)
    problem = il.ConvLeastSquares(last, labels)
    frame, pixels = features[:1], SIZE[0] * SIZE[1]
    gram = patch_gram(frame, KERNEL)
    rows, square = torch.rand(pixels, OUTPUTS), torch.rand(2048, 2048)
    convolution = 2e-9 * last.numel() * OUTPUTS * KERNEL**2
    return {
        "matrix product, 2048": (lambda: square @ square, 2e-9 * 2048**3),
        "32 frames: clone": (features.clone, 0),
        "32 frames: channels last": (lambda: channels_last(features), 0),
        "32 frames: prediction": (lambda: problem.predict(init), convolution),
        "32 frames: gradient": (lambda: problem.transpose(labels, init), convolution),
        "1 frame: Gram matrix": (lambda: patch_gram(frame, KERNEL), 1e-9 * pixels**2 * CHANNELS),
        "1 frame: a product with it": (lambda: gram @ rows, 2e-9 * pixels**2 * OUTPUTS),
    }


def print_parts(rounds: int) -> None:
    """Print the parts of a solve, timed on the clock of this thread."""
    torch.set_num_threads(1)
    cases = parts()
    times = take_turns({name: run for name, (run, _) in cases.items()}, rounds, time.thread_time)
    print(f"{'':30}{'ms':>9}{'min':>9}{'GFLOP':>9}{'GFLOP/s':>9}")
    for name, seconds in times.items():
        middle, operations = statistics.median(seconds), cases[name][1]
        print(
            f"{name:30}{1e3 * middle:9.2f}{1e3 * min(seconds):9.2f}"
            f"{operations:9.2f}{operations / middle:9.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "steepest_descent"
    )
    parser.add_argument("--parts", action="store_true", help="what the parts of a solve cost")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        case, frames, steps = arguments.memory
        print(measure_memory(case, int(frames), int(steps)))
        return
    if arguments.parts:
        print_parts(arguments.rounds)
        return

    settings: dict[str, Callable[[], dict[str, Callable[[], object]]]] = {
        "1 frame, 20 steps": lambda: dict(inference(1, 20)),
        "32 frames, 3 steps": lambda: dict(inference(32, 3)),
        "training, 1 frame, 5 steps": lambda: dict(training(1, 5)),
        "training, 8 frames, 5 steps": lambda: dict(training(8, 5)),
    }
    rows = []
    for setting, make in settings.items():
        runs = make()
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rows += compare(setting, threads, take_turns(runs, arguments.rounds))
    memory = []
    print(f"\n{'peak memory of training, MB':30}{PLAIN:>10}{OURS:>10}{'ratio':>8}")
    for frames in (1, 8, 32):
        plain, ours = (memory_of(case, frames, 5) for case in (PLAIN, OURS))
        memory.append({"frames": frames, "plain_mb": plain, "ours_mb": ours})
        print(f"{f'{frames} frames, 5 steps':30}{plain:10.1f}{ours:10.1f}{ours / plain:8.2f}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = {"times": rows, "memory": memory}
    path = arguments.output / "steepest_descent.json"
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    plot(rows, arguments.output / "steepest_descent.png")


def plot(rows: list[dict[str, object]], path: Path) -> None:
    """How many times faster every case is than the plain formulation."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    others = [row for row in rows if row["case"] != PLAIN]
    labels = [f"{row['setting']}, threads: {row['threads']}: {row['case']}" for row in others]
    figure, axes = plt.subplots(figsize=(9, 0.28 * len(others) + 1), layout="constrained")
    axes.barh(labels[::-1], [row["faster"] for row in others][::-1])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times faster than plain autograd")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
