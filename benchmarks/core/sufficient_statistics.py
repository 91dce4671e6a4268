"""What does it cost to learn from one more frame, with statistics and with stored frames?

Fits a 3x3 filter to 8 frames of 60x107 pixels, of which each counts less than the next. With
statistics, those of the new frame are added and the filter is solved for exactly; with stored
frames, it is solved for exactly or by a few steps from zero. All cases take turns in one process,
on one thread. Then, for rows of features: is it faster to rotate a new row into a Cholesky factor
than to factorise again? Prints tables and writes sufficient_statistics.json.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.core.sufficient_statistics \\
        [--rounds N] [--output FOLDER]
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from benchmarks.core.steepest_descent import take_turns
from innerloop.maps.weighted_gram import weighted_gram

FRAMES, SIZE, KERNEL, RATE = 8, (60, 107), 3, 0.2
REGULARIZATION = 1e-3
BASELINE = "frames, 5 steps of steepest descent"
TOLERANCE = 1e-3


class Data(NamedTuple):
    """Frames, as `il.ConvLeastSquares` takes them."""

    features: Tensor
    targets: Tensor
    weights: Tensor


def make_data(channels: int, outputs: int = 1, size: tuple[int, int] = SIZE) -> Data:
    """Smooth features that are not negative, as those of a network, and targets seen in noise."""
    make = torch.Generator().manual_seed(0)
    coarse = torch.randn(FRAMES, channels, size[0] // 4, size[1] // 4, generator=make)
    mixed = torch.einsum("ij,tjyx->tiyx", torch.randn(channels, channels, generator=make), coarse)
    features = torch.relu(F.interpolate(mixed, size, mode="bilinear") / channels**0.5)
    truth = torch.randn(outputs, channels, KERNEL, KERNEL, generator=make) / channels
    targets = F.conv2d(features, truth, padding=KERNEL // 2)
    targets = targets + 0.1 * torch.randn(targets.shape, generator=make)
    age = torch.arange(FRAMES - 1, -1, -1)
    shares = torch.where(age == FRAMES - 1, 1.0, RATE) * (1 - RATE) ** age
    return Data(features, targets, shares.sqrt())


def statistics_of(frames: Data, weights: Tensor | None = None) -> il.Statistics:
    """The statistics of frames that count the same unless they have weights."""
    return il.Statistics.conv(frames.features, frames.targets, weights, kernel=KERNEL)


def cases(data: Data) -> tuple[dict[str, Callable[[], Tensor]], dict[str, float], il.Statistics]:
    """Ways to the filter, the excess loss of each, relative to the min, and the statistics."""
    scale = float(data.features.square().mean() * data.features[0, 0].numel())
    decay = REGULARIZATION * scale
    init = torch.zeros(data.targets.shape[1], data.features.shape[1], KERNEL, KERNEL)
    new = Data(*(part[-1:] for part in data))
    old = statistics_of(Data(*(part[:1] for part in data)))
    for t in range(1, FRAMES - 1):
        old = old.updated(statistics_of(Data(*(part[t : t + 1] for part in data))), RATE)

    def updated() -> il.NormalEquations:
        return il.NormalEquations(old.updated(statistics_of(new), RATE), decay)

    def stored() -> il.ConvLeastSquares:
        return il.ConvLeastSquares(*data, decay)

    def solved(make: Callable[[], il.Problem], solver: il.Solver, steps: int = 1) -> Tensor:
        value: Tensor = il.solve(make(), init, solver, steps=steps, adjoint=il.Detach()).value
        return value

    runs: dict[str, Callable[[], Tensor]] = {
        BASELINE: lambda: solved(stored, il.SteepestDescent(), 5),
        "frames, 20 steps of steepest descent": lambda: solved(stored, il.SteepestDescent(), 20),
        "frames, 5 steps of CG": lambda: solved(stored, il.ConjugateGradient(), 5),
        "frames, 20 steps of CG": lambda: solved(stored, il.ConjugateGradient(), 20),
        "frames, exact": lambda: solved(stored, il.Ridge()),
        "statistics, 20 steps of CG": lambda: solved(updated, il.ConjugateGradient(), 20),
        "statistics, exact": lambda: solved(updated, il.Ridge()),
    }
    problem = il.ConvLeastSquares(*(part.double() for part in data), decay)
    exact = il.solve(problem, init.double(), il.Ridge(), adjoint=il.Detach()).value
    least = problem.loss(exact)
    excess = {
        name: float((problem.loss(run().double()) - least) / least) for name, run in runs.items()
    }
    for name in ("frames, exact", "statistics, exact"):
        assert excess[name] < TOLERANCE, (name, excess)
    return runs, excess, old


def compare(channels: int, rounds: int) -> list[dict[str, object]]:
    """A row for every case, printed too."""
    data = make_data(channels)
    runs, excess, known = cases(data)
    times = take_turns(runs, rounds)
    kept = sum(tensor.nbytes for tensor in known.state_dict().values()) / 2**20
    stored = sum(part.nbytes for part in data) / 2**20
    print(f"\n{channels} channels; frames {stored:.1f} MB, statistics {kept:.1f} MB")
    print(f"{'':38}{'ms':>8}{'ratio':>8}{'spread':>14}{'excess loss':>13}")
    rows: list[dict[str, object]] = []
    for name, seconds in times.items():
        # Within a round, a busy machine slows both.
        ratios = [a / b for a, b in zip(seconds, times[BASELINE], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        milliseconds = 1e3 * statistics.median(seconds)
        rows.append(
            {
                "channels": channels,
                "case": name,
                "ms": milliseconds,
                "ms_min": 1e3 * min(seconds),
                "ratio": middle,
                "ratio_quartiles": [low, high],
                "excess_loss": excess[name],
                "stored_mb": kept if name.startswith("statistics") else stored,
            }
        )
        print(f"{name:38}{milliseconds:8.1f}{middle:8.2f}{low:9.2f}-{high:.2f}{excess[name]:13.1e}")
    return rows


def unfolded_gram(features: Tensor, squares: Tensor) -> Tensor:
    """The weighted Gram matrix of the patches of a frame, which are made first."""
    patches = F.unfold(features, KERNEL, padding=KERNEL // 2)[0]
    return (patches * squares.flatten()) @ patches.mT


def parts(channels: int, rounds: int) -> dict[str, object]:
    """Median and min milliseconds of the statistics of a frame, and of factor and solution."""
    data = make_data(channels, outputs=16)
    new = Data(*(part[-1:] for part in data))
    known = statistics_of(new)
    squares = new.weights.square()[:, None, None].expand(1, *new.features.shape[-2:])
    runs: dict[str, Callable[[], object]] = {
        "Gram matrix of unfolded patches": lambda: unfolded_gram(new.features, squares),
        "Gram matrix without": lambda: weighted_gram(new.features, squares, KERNEL),
        "statistics of a frame, 16 outputs": lambda: statistics_of(new),
    }
    for count in (1, 16):
        moment, energy = known.moment[:count], known.energy[:count]
        problem = il.NormalEquations(il.Statistics(known.gram, moment, energy), 1.0)
        runs[f"factor and solve, outputs: {count}"] = partial(
            il.solve, problem, moment, il.Ridge(), adjoint=il.Detach()
        )
    found: dict[str, object] = {"channels": channels}
    for name, seconds in take_turns(runs, rounds).items():
        median, least = 1e3 * statistics.median(seconds), 1e3 * min(seconds)
        found[name] = [median, least]
        print(f"{channels} channels: {name:38}{median:8.1f} ms, min {least:.1f}")
    return found


def rotated(factor: Tensor, row: Tensor) -> Tensor:
    """The Cholesky factor of L Lᵀ + x xᵀ, column by column.

    Source:
        Gill et al., Methods for Modifying Matrix Factorizations, 1974.
    """
    factor, row = factor.clone(), row.clone()
    for k in range(len(row)):
        length = torch.hypot(factor[k, k], row[k])
        cosine, sine = length / factor[k, k], row[k] / factor[k, k]
        factor[k, k] = length
        factor[k + 1 :, k] = (factor[k + 1 :, k] + sine * row[k + 1 :]) / cosine
        row[k + 1 :] = cosine * row[k + 1 :] - sine * factor[k + 1 :, k]
    return factor


def low_rank(rounds: int) -> list[dict[str, object]]:
    """One new row of features: a new factor, the old one rotated, or CG that it preconditions."""
    rows: list[dict[str, object]] = []
    print(f"\n{'one new row of features':38}{'new':>8}{'rotated':>9}{'CG':>7}  ms")
    for channels in (64, 256, 1024):
        make = torch.Generator().manual_seed(0)
        features = torch.randn(2 * channels, channels, generator=make)
        targets = torch.randn(2 * channels, 16, generator=make)
        old = il.Statistics.linear(features[:-1], targets[:-1])
        problem = il.NormalEquations(old + il.Statistics.linear(features[-1:], targets[-1:]), 1.0)
        factor = torch.linalg.cholesky(old.gram + torch.eye(channels))
        known = il.ConjugateGradient(il.NormalEquations(old, 1.0).inverse())
        init = torch.zeros(16, channels)
        change = rotated(factor, features[-1])
        torch.testing.assert_close(
            change @ change.mT,
            problem.statistics.gram + torch.eye(channels),
            rtol=1e-3,
            atol=1e-2,
        )
        runs: dict[str, Callable[[], object]] = {
            "new": lambda p=problem, i=init: il.solve(p, i, il.Ridge(), adjoint=il.Detach()),
            "rotated": lambda f=factor, x=features[-1], b=problem.statistics.moment.mT: (
                torch.cholesky_solve(b, rotated(f, x))
            ),
            "CG": lambda p=problem, i=init, k=known: il.solve(
                p, i, k, steps=2, adjoint=il.Detach()
            ),
        }
        times = {
            name: 1e3 * statistics.median(seconds)
            for name, seconds in take_turns(runs, rounds).items()
        }
        rows.append({"channels": channels, **times})
        print(f"{channels:<38}" + "".join(f"{times[name]:8.2f}" for name in runs))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "sufficient_statistics"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for channels in (64, 96) for row in compare(channels, arguments.rounds)]
    print()
    each = [parts(channels, arguments.rounds) for channels in (64, 96)]
    results = {"cases": rows, "parts": each, "new_row": low_rank(arguments.rounds)}
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "sufficient_statistics.json"
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    plot(results, path.with_suffix(".png"))


def plot(content: dict[str, Any], picture: Path) -> None:
    """Excess loss over time, for each way to the filter."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    channels = sorted({row["channels"] for row in content["cases"]})
    figure, axes = plt.subplots(1, len(channels), figsize=(11, 4), layout="constrained")
    for part, count in zip(axes, channels, strict=True):
        for row in content["cases"]:
            if row["channels"] == count:
                marker = "o" if row["case"].startswith("statistics") else "x"
                part.loglog(row["ms"], row["excess_loss"], marker, label=row["case"])
        part.set(title=f"{count} channels", xlabel="ms for one more frame", ylabel="excess loss")
    axes[-1].legend(fontsize="small")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
