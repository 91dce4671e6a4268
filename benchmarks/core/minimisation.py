"""How many evaluations do solvers of any smooth loss need on the standard test problems?

Runs solvers of this library, and the methods of scipy's `minimize` that correspond to them, on the
18 problems of Moré, Garbow and Hillstrom for unconstrained minimisation, from the standard starting
points. Prints one table, and writes it as JSON and as a plot. Needs no data.

Values and gradients count as one evaluation each, and products with the Hessian apart from them. A
gradient counts its value too, unless that was known. Counted are the evaluations until the loss is
within 1e-6 of the min that scipy reaches, or at 1e-12.

    python -m benchmarks.core.minimisation --out runs/minimisation

Source:
    Moré, Garbow and Hillstrom, Testing Unconstrained Optimization Software, ACM TOMS 7(1), 1981.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from torch import Tensor

import innerloop as il
from benchmarks.core.parts.standard_problems import Case, minimisation_cases
from innerloop_vos.io.files import atomic_path, prepare_output

STEPS = 1000


class Pair(NamedTuple):
    """A solver, and the method of scipy that corresponds to it."""

    solver: Callable[[], il.Solver]
    method: str
    options: dict[str, float] = {}  # noqa: RUF012


PAIRS = {
    "BFGS": Pair(il.BFGS, "BFGS"),
    "LBFGS": Pair(il.LBFGS, "L-BFGS-B", {"maxfun": 15000, "ftol": 1e-20}),
    "NonlinearConjugateGradient": Pair(il.NonlinearConjugateGradient, "CG"),
    "TrustRegion(Steihaug())": Pair(il.TrustRegion, "trust-ncg"),
    "TrustRegion(Dogleg())": Pair(lambda: il.TrustRegion(il.Dogleg()), "dogleg"),
}


class Seen(NamedTuple):
    """A loss that was computed, and how many evaluations and products there were by then."""

    loss: float
    evaluations: int
    products: int


class Counter:
    """Counts what a method evaluates."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.evaluations = self.products = 0

    def record(self, loss: float) -> None:
        """Note a loss that has just been counted."""
        loss = math.inf if math.isnan(loss) else loss
        self.seen.append(Seen(loss, self.evaluations, self.products))

    @property
    def lowest(self) -> float:
        """The least loss so far."""
        return min(seen.loss for seen in self.seen)

    def first_at(self, goal: float) -> Seen | None:
        """When the loss first was at the goal."""
        return next((seen for seen in self.seen if seen.loss <= goal), None)


class Counted(il.Objective):
    """The sum of squares of a case; it counts what a solver evaluates."""

    def __init__(self, case: Case) -> None:
        super().__init__(lambda x: case.residual(x).square().sum())
        self.counter = Counter()
        self._known: Tensor | None = None  # where the last value was computed
        self._differentiating = False

    def loss(self, params: Tensor) -> Tensor:
        loss = super().loss(params)
        if not self._differentiating:
            self._count(params, loss, 0)
        return loss

    def value_and_gradient(self, params: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self._quietly(super().value_and_gradient, params)
        self._count(params, loss, 1)
        return loss, gradient

    def hessian_operator(self, params: Tensor) -> Callable[[Tensor], Tensor]:
        operator = self._quietly(super().hessian_operator, params)

        def counted(direction: Tensor) -> Tensor:
            self.counter.products += 1
            return operator(direction)

        return counted

    def _quietly(self, method: Callable[[Tensor], Any], params: Tensor) -> Any:
        self._differentiating = True
        try:
            return method(params)
        finally:
            self._differentiating = False

    def _count(self, params: Tensor, loss: Tensor, gradients: int) -> None:
        new = self._known is None or not torch.equal(self._known, params)
        self.counter.evaluations += new + gradients
        self.counter.record(float(loss))
        self._known = params.clone()


def ours(case: Case, solver: il.Solver, goal: float, steps: int = STEPS) -> Counter:
    """What our solver evaluates, until the goal is reached or that many steps are taken."""
    problem, params = Counted(case), case.start
    with torch.no_grad():
        state = solver.init(problem, params)
        for _ in range(steps):
            params, state, _ = solver.step(problem, params, state)
            if problem.counter.lowest <= goal:
                break
    return problem.counter


def scipys(case: Case, pair: Pair) -> Counter:
    """What scipy's method evaluates, until it ends."""
    counter = Counter()

    def loss_of(x: Tensor) -> Tensor:
        return case.residual(x).square().sum()

    def loss(x: np.ndarray) -> float:
        value = float(loss_of(torch.from_numpy(x)))
        counter.evaluations += 1
        counter.record(value)
        return value

    def gradient(x: np.ndarray) -> np.ndarray:
        counter.evaluations += 1
        return torch.func.grad(loss_of)(torch.from_numpy(x)).numpy()

    def product(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
        counter.products += 1
        at, along = (torch.from_numpy(v.copy()) for v in (x, direction))
        return torch.func.jvp(torch.func.grad(loss_of), (at,), (along,))[1].numpy()

    def hessian(x: np.ndarray) -> np.ndarray:
        return np.stack([product(x, unit) for unit in np.eye(len(x))])

    curvature: dict[str, Any] = {}
    if pair.method == "trust-ncg":
        curvature["hessp"] = product
    if pair.method == "dogleg":
        curvature["hess"] = hessian
    options = {"gtol": 1e-9, "maxiter": 1000, **pair.options}
    start = case.start.numpy()
    minimize(loss, start, jac=gradient, method=pair.method, options=options, **curvature)
    return counter


class Row(NamedTuple):
    """Evaluations and products of both on a case; None where ours does not reach the goal."""

    solver: str
    problem: str
    n: int
    ours: int | None
    scipy: int
    our_products: int | None
    scipy_products: int
    ours_reaches: float
    scipy_reaches: float


def compare(name: str, case: Case) -> Row:
    """Run both solvers of a pair on a case."""
    pair = PAIRS[name]
    theirs = scipys(case, pair)
    goal = max(theirs.lowest * (1 + 1e-6), 1e-12)
    mine = ours(case, pair.solver(), goal)
    needed, found = theirs.first_at(goal), mine.first_at(goal)
    assert needed is not None
    counts = (needed.evaluations, found and found.products, needed.products)
    n, evaluations = len(case.start), found and found.evaluations
    return Row(name, case.name, n, evaluations, *counts, mine.lowest, theirs.lowest)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/minimisation"))
    arguments = parser.parse_args()
    out = prepare_output(arguments.out)

    rows = [compare(name, case) for name in PAIRS for case in minimisation_cases()]
    table = Table("solver", "problem", "n", "ours", "scipy", "products", "scipy's products")
    for row in rows:
        mine = "not solved" if row.ours is None else str(row.ours)
        counts = (mine, row.scipy, row.our_products, row.scipy_products)
        table.add_row(row.solver, row.problem, str(row.n), *map(str, counts))
    console = Console()
    console.print("values and gradients, and products with the Hessian, until scipy's min")
    console.print(table)
    for name, total in totals(rows).items():
        console.print(name, total)

    with atomic_path(out / "evaluations.json") as path:
        path.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    plot(rows, out / "evaluations.png")
    console.print(f"plot in {out / 'evaluations.png'}")


def totals(rows: list[Row]) -> dict[str, dict[str, int]]:
    """Sums for each solver, over the problems that both solve."""
    sums = {}
    for name in dict.fromkeys(row.solver for row in rows):
        solved = [row for row in rows if row.solver == name and row.ours is not None]
        columns = ("ours", "scipy", "our_products", "scipy_products")
        sums[name] = {column: sum(getattr(row, column) for row in solved) for column in columns}
        sums[name]["solved"] = len(solved)
    return sums


def plot(rows: list[Row], path: Path) -> None:
    """A dot for every case that both solve."""
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    solved = [row for row in rows if row.ours is not None]
    for name in dict.fromkeys(row.solver for row in solved):
        those = [row for row in solved if row.solver == name]
        ours = [row.ours for row in those]
        axes.loglog([row.scipy for row in those], ours, "o", alpha=0.6, label=name)
    ends = [1, 2 * max(max(row.scipy, row.ours or 0) for row in solved)]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(xlabel="evaluations, scipy", ylabel="evaluations, innerloop")
    axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


if __name__ == "__main__":
    main()
