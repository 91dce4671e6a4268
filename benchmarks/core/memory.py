"""Does the memory of an outer gradient grow with the inner steps?

Adapts a small convolutional net by gradient descent and takes the outer gradient, each case in its
own process, with the default allocator. Reports the peak of resident memory, above that after the
imports, and the peak of the memory of live tensors. Prints a table and writes memory.json and, with
matplotlib, memory.png.

    python -m benchmarks.core.memory [--output FOLDER]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import weakref
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CASES = [
    ("Unroll()", 10),
    ("Unroll()", 40),
    ("Unroll(checkpoint=7)", 40),
    ("Unroll(checkpoint=10)", 100),
    ("Truncate(5)", 40),
    ("Truncate(5)", 100),
    ("OneStep()", 40),
    ("FirstOrder()", 5),
    ("FirstOrder()", 100),
    ("Implicit(steps=5, accept=1e9)", 5),
    ("Implicit(steps=5, accept=1e9)", 100),
    ("Detach()", 100),
]

ENV = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(adjoint: str, steps: int) -> dict[str, float]:
    """Peak memory and time of one outer gradient, in this process."""
    from torch import nn
    from torch.nn import functional as F

    import innerloop as il

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 5, 3, padding=1),
    )
    images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 5, (16, 32, 32))
    rate = torch.tensor(0.05, requires_grad=True)

    def loss(model):  # type: ignore[no-untyped-def]
        return F.cross_entropy(model(images), labels)

    def outer(adjoint, steps):  # type: ignore[no-untyped-def]
        adapted = il.adapt(net, loss, il.GradientDescent(rate), steps=steps, adjoint=adjoint)
        (loss(adapted) + 0 * rate).backward()

    rule = eval(f"il.{adjoint}", {"il": il})
    before, start = peak_mb(), time.perf_counter()
    outer(rule, steps)
    resident, seconds = peak_mb() - before, time.perf_counter() - start
    with LiveTensors() as live:  # a second run, as counting takes memory and time
        outer(rule, steps)
    return {"peak_mb": resident, "live_mb": live.peak / 2**20, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "memory")
    parser.add_argument("--case", nargs=2, metavar=("ADJOINT", "STEPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case[0], int(arguments.case[1]))))
        return

    rows = []
    print(f"{'adjoint':24}{'steps':>6}{'peak MB':>10}{'live MB':>10}{'seconds':>10}")
    for adjoint, steps in CASES:
        command = [sys.executable, __file__, "--case", adjoint, str(steps)]
        output = subprocess.run(command, check=True, env=ENV, capture_output=True, text=True).stdout
        row = {"adjoint": adjoint, "steps": steps, **json.loads(output)}
        rows.append(row)
        print(
            f"{adjoint:24}{steps:6}{row['peak_mb']:10.1f}{row['live_mb']:10.1f}"
            f"{row['seconds']:10.2f}"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "memory.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    plot(rows, arguments.output / "memory.png")


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """A bar for every case."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    labels = [f"{row['adjoint']}, {row['steps']} steps" for row in rows]
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(rows) + 1), layout="constrained")
    axes.barh(labels[::-1], [row["peak_mb"] for row in rows][::-1])
    axes.set_xlabel("peak memory of the outer gradient, MB")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
