"""How long does a hypergradient take that is right to 1 %, or to five digits?

Three hyperparameter problems, a weight for every sample and one decay: ridge regression, logistic
regression, and nonlinear least squares; features have a spectrum that falls by 10, in double
precision. The exact hypergradient is that of the minimum, by dense linear algebra. Every way has
two budgets, inner steps and steps of a linear solver; the smallest that reach the error are looked
for first, without a clock. Then all ways take turns. Gradient descent has the best rate and
momentum for the spectrum in every library, and so have Neumann series.

- innerloop: the solver that the structure of the problem allows, and gradient descent.
- TorchOpt: its `sgd`, unrolled, and with `custom_root` and `solve_cg`. Needs `make peers`.
- As with Betty: steps of `torch.optim.SGD`, then Neumann series or conjugate gradients by products
  of autograd, written out here in plain torch.
- `torch.func`: gradient descent, unrolled or with conjugate gradients; dense Newton steps and a
  dense linear system.

Prints a table, and writes time_to_error.json and time_to_error.png.

    OMP_NUM_THREADS=1 python -m benchmarks.core.time_to_error [--output FOLDER] [--rounds 7]
"""

import argparse
import contextlib
import json
import math
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import innerloop as il
from benchmarks.core.parts.hypergradient_tasks import TASKS, Task, exact, minimum, tuned
from benchmarks.core.parts.hypergradient_ways import Way, ways
from innerloop._files import atomic_path
from innerloop.compare.measure import interleaved, median_ratio, seconds

TOLERANCES = (1e-2, 1e-5)
LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320)
"""Budgets that are tried."""


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Infinite where it is not finite."""
    error = float((found - reference).norm() / reference.norm())
    return error if math.isfinite(error) else math.inf


Budget = tuple[int, int, float]
"""Inner steps, linear steps, and the error."""


def least_budgets(way: Way, reference: Tensor) -> list[Budget | None]:
    """For each tolerance the fewest linear steps that suffice after many inner ones, and the fewest
    inner ones with these; None if no budget suffices."""
    errors: dict[tuple[int, int], float] = {}

    def error(steps: int, linear: int) -> float:
        if (steps, linear) not in errors:
            found = torch.full_like(reference, math.inf)
            with contextlib.suppress(il.SolveError, torch.linalg.LinAlgError):
                found = way.run(steps, linear)
            errors[steps, linear] = relative_error(found, reference)
        return errors[steps, linear]

    def least(tolerance: float) -> Budget | None:
        most = LADDER[-1] if way.linear else 0
        enough = next((n for n in LADDER if error(n, most) <= tolerance / 2), LADDER[-1])
        for linear in LADDER if way.linear else (0,):
            if error(enough, linear) <= tolerance:
                steps = next(n for n in LADDER if error(n, linear) <= tolerance)
                return steps, linear, error(steps, linear)
        return None

    return [least(tolerance) for tolerance in TOLERANCES]


def compare(name: str, task: Task, rounds: int) -> list[dict[str, Any]]:
    """A row for every way and tolerance, printed too."""
    reference, (_, hessian) = exact(task), minimum(task)
    found, rows = ways(task, tuned(hessian)), []
    least = {name: least_budgets(way, reference) for name, way in found.items()}
    for place, tolerance in enumerate(TOLERANCES):
        budgets = {way: both[place] for way, both in least.items()}
        runs = {
            way: partial(seconds, partial(found[way].run, *budget[:2]))
            for way, budget in budgets.items()
            if budget is not None
        }
        times = interleaved(runs, rounds)  # in turns, so that a busy machine slows all
        others = [way for way in runs if found[way].library != "innerloop"]
        best = min(others, key=lambda way: min(times[way]))
        print(f"\n{name}, error at most {tolerance:.0e}; best of the others: {best}", flush=True)
        print(f"{'':40}{'steps':>6}{'linear':>7}{'error':>9}{'min ms':>9}{'to best':>9}")
        for way, budget in budgets.items():
            row: dict[str, Any] = {
                "problem": name,
                "tolerance": tolerance,
                "way": way,
                "library": found[way].library,
            }
            if budget is not None:
                row |= dict(zip(("steps", "linear", "error"), budget, strict=True))
                row["ms"] = 1e3 * min(times[way])
                row["median_ms"] = 1e3 * statistics.median(times[way])
                row["to_best"] = median_ratio(times[way], times[best])
                print(
                    f"{way:40}{row['steps']:6}{row['linear']:7}{row['error']:9.1e}"
                    f"{row['ms']:9.2f}{row['to_best']:9.2f}"
                )
            else:
                print(f"{way:40}{'not reached':>22}")
            rows.append(row)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time of every way, a panel for every problem and tolerance."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys((row["problem"], row["tolerance"]) for row in rows))
    figure, panels = plt.subplots(
        len(cases), 1, figsize=(8, 2.6 * len(cases)), layout="constrained", squeeze=False
    )
    for (problem, tolerance), axes in zip(cases, panels[:, 0], strict=True):
        mine = [
            row
            for row in rows[::-1]
            if (row["problem"], row["tolerance"]) == (problem, tolerance) and "ms" in row
        ]
        colors = ["tab:blue" if row["library"] == "innerloop" else "tab:gray" for row in mine]
        axes.barh([row["way"] for row in mine], [row["ms"] for row in mine], color=colors)
        axes.set(title=f"{problem}, error {tolerance:.0e}", xlabel="ms", xscale="log")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "time_to_error"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name, make in TASKS.items() for row in compare(name, make(), arguments.rounds)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "time_to_error.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")
    plot(rows, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
