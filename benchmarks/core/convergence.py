"""How fast do the inner solvers of convolutional least squares reach the exact solution?

Fits a filter on all features of the embedded backbone to one annotated frame, prints the excess
loss (relative to that of the exact solution) over the steps, and writes it as JSON and as a plot.
Needs no data: the frame is synthetic unless --frame and --mask are given.

    python -m benchmarks.core.convergence --out runs/convergence [--frame FRAME.jpg --mask MASK.png]
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.joining import join_levels
from innerloop_vos.data import synthetic_clip
from innerloop_vos.io.files import atomic_path, prepare_output
from innerloop_vos.io.masks import read_mask
from innerloop_vos.io.video import open_frames
from innerloop_vos.ridge import balance

SOLVERS = {"steepest descent": il.SteepestDescent(), "conjugate gradient": il.ConjugateGradient()}
STRIDE, KERNEL, REGULARIZATION = 8, 3, 1e-2
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100)


def first_frame_problem(frame: Tensor, mask: Tensor) -> tuple[il.ConvLeastSquares, Tensor]:
    """The least-squares problem of one frame, and its zero filter.

    Args:
        frame: RGB, shape (3, H, W), uint8.
        mask: the object's pixels, shape (H, W), nonzero inside.
    """
    network = backbone("small")
    size = tuple(-(-side // STRIDE) for side in mask.shape)
    with torch.no_grad():
        levels = network(frame[None].float() / 255)
    # Double precision, so that the excess is not lost in the rounding of the loss.
    features = join_levels([levels[name] for name in network.target_levels], size).double()
    share = F.adaptive_avg_pool2d((mask > 0).double()[None], size)
    weights = balance(share[0]).sqrt()
    problem = il.ConvLeastSquares(features, share[None], weights[None, None], REGULARIZATION)
    init = features.new_zeros(1, features.shape[1], KERNEL, KERNEL)
    return problem, init


def excess_losses(
    problem: il.ConvLeastSquares, init: Tensor, solver: il.Solver, steps: int
) -> tuple[list[float], float]:
    """Excess loss, relative to the exact solution's, after 0 to `steps` steps; seconds per step."""
    exact = problem.loss(il.solve(problem, init, il.Ridge(), adjoint=il.Detach()).value)
    start = time.perf_counter()
    solution = il.solve(problem, init, solver, steps=steps, adjoint=il.Detach())
    seconds = (time.perf_counter() - start) / steps
    losses = torch.cat([solution.stats.losses, problem.loss(solution.value)[None]])
    return ((losses - exact) / exact).tolist(), seconds


def chosen_frame(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """The frame and the mask of its object, as `first_frame_problem` takes them."""
    if arguments.frame:
        return open_frames(arguments.frame)[0], read_mask(arguments.mask)
    frames, masks = synthetic_clip(length=1, size=(480, 854))
    return frames[0], (masks[0] == 1).byte()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frame", type=Path)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"))
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    if (arguments.frame is None) != (arguments.mask is None):
        parser.error("--frame and --mask go together")
    problem, init = first_frame_problem(*chosen_frame(arguments))
    out = prepare_output(arguments.out)

    found = {
        name: excess_losses(problem, init, solver, arguments.steps)
        for name, solver in SOLVERS.items()
    }
    console = Console()
    console.print(f"excess loss over steps, features {tuple(problem.features.shape)}")
    console.print(convergence_table(found, arguments.steps))
    excess = {name: losses for name, (losses, _) in found.items()}
    target = excess["steepest descent"][20]
    needed = next(k for k, value in enumerate(excess["conjugate gradient"]) if value <= target)
    console.print(f"conjugate gradient reaches steepest descent's 20-step loss in {needed} steps")
    with atomic_path(out / "convergence.json") as path:
        path.write_text(json.dumps(excess) + "\n")
    plot(excess, out / "convergence.png")
    console.print(f"plot in {out / 'convergence.png'}")


def convergence_table(found: dict[str, tuple[list[float], float]], steps: int) -> Table:
    """A row per step of `SHOWN`, and the time of a step."""
    table = Table("steps", *found)
    for step in SHOWN:
        if step <= steps:
            table.add_row(str(step), *(f"{excess[step]:.2e}" for excess, _ in found.values()))
    table.add_row("ms per step", *(f"{1e3 * seconds:.1f}" for _, seconds in found.values()))
    return table


def plot(found: dict[str, list[float]], path: Path) -> None:
    """The excess loss of every solver over the steps."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, excess in found.items():
        axes.semilogy(excess, label=name)
    axes.axhline(found["steepest descent"][20], color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="steps", ylabel="loss above the exact solution's, relative", ylim=(1e-16, None))
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


if __name__ == "__main__":
    main()
