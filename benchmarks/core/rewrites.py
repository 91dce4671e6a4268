"""What does each change of compiled graphs bring? All of them, against all but one.

A process for each variant compiles the gradient of an inner step of MAML's convolutional net, with
BatchNorm; then all take turns, so that a busy machine slows them alike. Prints the median ratio of
a meta-step without the change to one with it, and that of peak memory. Compiling takes a minute for
each variant.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.core.rewrites [--rounds 15] [--threads 1]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import innerloop as il
from benchmarks.core.before_after import conv_net
from innerloop.compile import joint_graph, rewriting


def _nothing(*args: Any) -> None:
    pass


def _without(name: str) -> Callable[[], None]:
    assert hasattr(joint_graph, name), name
    return lambda: setattr(joint_graph, name, _nothing)


def _without_operation(*names: str) -> Callable[[], None]:
    def apply() -> None:
        for target in list(rewriting._IN_OTHER_WORDS):
            if rewriting._IN_OTHER_WORDS[target].__name__ in names:
                del rewriting._IN_OTHER_WORDS[target]

    return apply


VARIANTS: dict[str, Callable[[], None]] = {
    "all": _nothing,
    "without: convolutions channels last": _without_operation("_conv2d"),
    "without: pooling without indices": _without_operation("_max_pool2d"),
    "without: BatchNorm step by step": _without_operation("_batch_norm"),
    "without: numbers for booleans": _without("_numbers_for_booleans"),
    "without: cheap values computed again": _without("_keep_what_is_costly"),
}


def work(variant: str, threads: int) -> None:
    """Compile, say so, and take a meta-step for every line on standard input."""
    torch.set_num_threads(threads)
    VARIANTS[variant]()
    torch._inductor.config.fx_graph_cache = False
    torch.manual_seed(0)
    net = conv_net()
    model = il.Adapted(net, buffers="batch_statistics")
    optimizer = torch.optim.Adam(net.parameters())
    x, y = torch.randn(4, 25, 1, 28, 28), torch.arange(5).repeat(5)

    def task_loss(init: Any, task: torch.Tensor) -> torch.Tensor:
        solver = il.GradientDescent(0.1)
        loss = lambda model: F.cross_entropy(model(task), y)  # noqa: E731
        adapted = model.adapt(loss, solver, init=init, steps=5, compile=True)
        return F.cross_entropy(adapted(task), y)

    step = lambda: il.meta_train(  # noqa: E731
        task_loss, dict(net.named_parameters()), [x], optimizer
    )
    step()
    print(0.0, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)
    print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(json.loads(args.work), args.threads)
        return
    processes = {}
    for name in VARIANTS:
        command = [sys.executable, "-m", "benchmarks.core.rewrites", "--work", json.dumps(name)]
        processes[name] = subprocess.Popen(
            [*command, "--threads", str(args.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes[name].stdout.readline()
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(args.rounds):
        for name, process in processes.items():
            print(file=process.stdin, flush=True)
            times[name].append(float(process.stdout.readline()))
    peaks = {name: float(p.communicate()[0]) for name, p in processes.items()}
    print(f"{'':40}{'ms':>8}{'slower':>8}{'quartiles':>14}{'memory':>8}")
    for name, seconds in times.items():
        ratios = [b / a for a, b in zip(times["all"], seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        ms = 1e3 * statistics.median(seconds)
        share = peaks[name] / peaks["all"]
        print(f"{name:40}{ms:8.1f}{middle:8.3f}{low:8.3f}-{high:.3f}{share:8.3f}", flush=True)


if __name__ == "__main__":
    main()
