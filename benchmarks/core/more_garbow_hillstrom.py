"""How many evaluations does Levenberg-Marquardt need on the standard test problems?

Runs `LevenbergMarquardt` and MINPACK's lmder (through scipy, as it comes) on all 35 problems of
Moré, Garbow and Hillstrom, those of variable size in several sizes up to n = 20, from the standard
starting points. Prints one table, and writes it as JSON and as a plot. Needs no data.

A residual and a Jacobian count as one evaluation each; ours makes one of each per step, and both
have exact Jacobians. Counted are the evaluations until the sum of squares is within 1e-6 of the
min that lmder reaches, or at 1e-16.

    python -m benchmarks.core.more_garbow_hillstrom --out runs/more_garbow_hillstrom

Source:
    Moré, Garbow and Hillstrom, Testing Unconstrained Optimization Software, ACM TOMS 7(1), 1981.
"""

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares
from torch import Tensor

import innerloop as il
from benchmarks.core.parts.standard_problems import Case, cases
from innerloop_vos.io.files import atomic_path, prepare_output

STEPS = 500


def minpack_squares(case: Case) -> list[float]:
    """The sum of squares at each of lmder's evaluations; a Jacobian counts as infinity."""
    squares: list[float] = []
    jacobian_of = torch.func.jacrev(case.residual)

    def residual(x: np.ndarray) -> np.ndarray:
        r = case.residual(torch.from_numpy(x.copy())).numpy()
        squares.append(float(r @ r))
        return r

    def jacobian(x: np.ndarray) -> np.ndarray:
        squares.append(math.inf)
        matrix: Tensor = jacobian_of(torch.from_numpy(x.copy()))
        return matrix.numpy()

    least_squares(residual, case.start.numpy(), jacobian, method="lm")
    return squares


def our_squares(case: Case, steps: int, target: float) -> list[float]:
    """The same of our solver, until the target is reached or that many steps are taken.

    Its first Jacobian computes the first residual too, which counts as an evaluation.
    """
    calls = 0

    def residual(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return case.residual(x)

    problem, solver, params = il.LeastSquares(residual), il.LevenbergMarquardt(), case.start
    state = solver.init(problem, params)
    squares = [float(case.residual(params).square().sum())]
    while len(squares) < 2 * steps and not squares[-1] <= target:
        params, state, _ = solver.step(problem, params, state)
        squares += [math.inf, float(case.residual(params).square().sum())]
    assert calls == len(squares) - 1
    return squares


def evaluations(squares: list[float], target: float) -> int | None:
    """How many were made until the sum of squares fell to the target, None if it did not."""
    return next((k for k, square in enumerate(squares, 1) if square <= target), None)


class Row(NamedTuple):
    """The evaluations of both solvers on a case."""

    problem: str
    n: int
    m: int
    ours: int | None
    minpack: int
    ours_reaches: float
    minpack_reaches: float


def compare(case: Case, steps: int = STEPS) -> Row:
    """Run both solvers on a case."""
    minpack = minpack_squares(case)
    lowest = min(minpack)
    target = max(lowest * (1 + 1e-6), 1e-16)
    ours = our_squares(case, steps, target)
    needed, found = evaluations(minpack, target), evaluations(ours, target)
    assert needed is not None
    m = case.residual(case.start).numel()
    return Row(case.name, len(case.start), m, found, needed, min(ours), lowest)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/more_garbow_hillstrom"))
    arguments = parser.parse_args()
    out = prepare_output(arguments.out)

    rows = [compare(case) for case in cases()]
    table = Table("problem", "n", "m", "ours", "MINPACK", "ours reaches", "MINPACK reaches")
    for row in rows:
        reached = (f"{row.ours_reaches:.6g}", f"{row.minpack_reaches:.6g}")
        ours = "not solved" if row.ours is None else str(row.ours)
        table.add_row(row.problem, str(row.n), str(row.m), ours, str(row.minpack), *reached)
    solved = [row for row in rows if row.ours is not None]
    ours_total = sum(row.ours or 0 for row in solved)
    minpack_total = sum(row.minpack for row in solved)
    table.add_row("sum where both do", "", "", str(ours_total), str(minpack_total), "", "")
    console = Console()
    console.print("evaluations of residuals and Jacobians")
    console.print(table)
    console.print(f"solved {len(solved)} of {len(rows)}")

    with atomic_path(out / "evaluations.json") as path:
        path.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    plot(rows, out / "evaluations.png")
    console.print(f"plot in {out / 'evaluations.png'}")


def plot(rows: list[Row], path: Path) -> None:
    """A dot for every case that both solve."""
    solved = [row for row in rows if row.ours is not None]
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.loglog([row.minpack for row in solved], [row.ours for row in solved], "o", alpha=0.6)
    ends = [1, 2 * max(max(row.minpack, row.ours or 0) for row in solved)]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(xlabel="evaluations, MINPACK", ylabel="evaluations, LevenbergMarquardt")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


if __name__ == "__main__":
    main()
