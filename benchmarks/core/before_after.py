"""Is this checkout as fast as another one, such as the last release?

Two processes, one per checkout, run each case in turns, so that a busy machine slows both alike.
Prints the median and the quartiles of the ratios of all turns, and the peak memory of each process.
Needs the packages that both checkouts need.

    git worktree add ../before v0.1
    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.core.before_after ../before \\
        [--rounds 25] [--cases maml]
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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop as il

HERE = Path(__file__).parents[2]


def conv_net() -> nn.Sequential:
    """The net of Finn et al., MAML, 2017, with BatchNorm by the batch."""
    layers: list[nn.Module] = []
    for channels in (1, 32, 32, 32):
        layers += [
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.BatchNorm2d(32, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 5))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))


def maml(tasks: int = 4, adjoint: il.Adjoint | None = None) -> Callable[[], object]:
    """A meta-step: five inner steps, 5 ways, 5 shots."""
    net = conv_net()
    model, optimizer = (
        il.Adapted(net, buffers="batch_statistics"),
        torch.optim.Adam(net.parameters()),
    )
    x, y = torch.randn(tasks, 25, 1, 28, 28), torch.arange(5).repeat(5)

    def task_loss(init: dict[str, Tensor], task: Tensor) -> Tensor:
        adapted = model.adapt(
            lambda model: F.cross_entropy(model(task), y),
            il.GradientDescent(0.1),
            init=init,
            steps=5,
            adjoint=adjoint,
        )
        return F.cross_entropy(adapted(task), y)

    init = dict(net.named_parameters())
    return lambda: il.meta_train(task_loss, init, [x], optimizer)


def adapt_mlp(steps: int, solver: il.Solver) -> Callable[[], object]:
    net, (x, y) = mlp(), (torch.randn(32, 8), torch.randn(32, 1))
    loss = lambda model: F.mse_loss(model(x), y)  # noqa: E731

    def run() -> None:
        for _ in range(20):
            torch.autograd.grad(loss(il.adapt(net, loss, solver, steps=steps)), net[0].weight)

    return run


def steepest(frames: int, steps: int, adjoint: il.Adjoint) -> Callable[[], object]:
    """LWL's inner problem: 16 outputs, 512 channels of 30x52 pixels."""
    x = torch.randn(frames, 512, 30, 52) / 68
    y, w = torch.rand(2, frames, 16, 30, 52)
    training = isinstance(adjoint, il.Unroll)
    init = torch.zeros(16, 512, 3, 3).requires_grad_(training)
    x.requires_grad_(training)

    def run() -> None:
        problem = il.ConvLeastSquares(x, y, w, torch.tensor(1e-4))
        value = il.solve(
            problem, init, il.SteepestDescent(1e-8), steps=steps, adjoint=adjoint
        ).value
        if training:
            torch.autograd.grad(value.sum(), (x, init))

    return run


def small_problems(solver: il.Solver, steps: int) -> Callable[[], object]:
    """The overhead of a step: four unknowns."""
    x, y = torch.randn(6, 4), torch.randn(6, 1)

    def run() -> None:
        for _ in range(50):
            problem = il.LinearLeastSquares(x, y, regularization=0.1)
            il.solve(problem, torch.zeros(1, 4), solver, steps=steps, adjoint=il.Detach())

    return run


CASES: dict[str, Callable[[], Callable[[], object]]] = {
    "maml, conv net": maml,
    "maml, conv net, first order": lambda: maml(adjoint=il.FirstOrder()),
    "maml, MLP, 1 step": lambda: adapt_mlp(1, il.GradientDescent(0.1)),
    "maml, MLP, 5 steps": lambda: adapt_mlp(5, il.GradientDescent(0.1)),
    "maml, MLP, 5 steps of Adam": lambda: adapt_mlp(5, il.Adam(0.01)),
    "steepest descent, 1 frame x 20": lambda: steepest(1, 20, il.Detach()),
    "steepest descent, 8 frames x 3": lambda: steepest(8, 3, il.Detach()),
    "steepest descent, training, 1 frame x 5": lambda: steepest(1, 5, il.Unroll()),
    "overhead, gradient descent": lambda: small_problems(il.GradientDescent(0.1), 10),
    "overhead, steepest descent": lambda: small_problems(il.SteepestDescent(), 10),
    "overhead, Levenberg-Marquardt": lambda: small_problems(il.LevenbergMarquardt(), 10),
    "overhead, ridge": lambda: small_problems(il.Ridge(), 1),
}


def work() -> None:
    """Run the cases named on standard input, and answer each with its seconds."""
    torch.set_num_threads(1)
    made: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        name = json.loads(line)
        if name not in made:
            torch.manual_seed(0)
            made[name] = CASES[name]()
            made[name]()
        start = time.perf_counter()
        made[name]()
        print(json.dumps(time.perf_counter() - start), flush=True)
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    print(int(peak) / 1024, flush=True)


def worker(checkout: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--work", str(checkout)],
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen[str], name: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps(name), file=process.stdin, flush=True)
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--cases", default="", help="those whose name contains this (default: all)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work()
        return
    before, here = worker(args.before), worker(HERE)
    print(f"{'':42}{'before ms':>10}{'here ms':>9}{'ratio':>7}{'quartiles':>13}")
    for name in (name for name in CASES if args.cases in name):
        pairs = [(ask(before, name), ask(here, name)) for _ in range(args.rounds)]
        low, middle, high = statistics.quantiles([b / a for a, b in pairs], n=4)
        first, second = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"{name:42}{first:10.2f}{second:9.2f}{middle:7.3f}{low:7.3f}-{high:.3f}", flush=True)
    peaks = [float(process.communicate()[0]) for process in (before, here)]
    print(f"{'peak memory, MB':42}{peaks[0]:10.0f}{peaks[1]:9.0f}{peaks[1] / peaks[0]:7.3f}")


if __name__ == "__main__":
    main()
