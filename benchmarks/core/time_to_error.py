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

Source:
    Choe et al., Betty: An Automatic Differentiation Library for Multilevel Optimization, ICLR 2023
    (its two implicit gradients); Lorraine, Vicol and Duvenaud, Optimizing Millions of
    Hyperparameters by Implicit Differentiation, AISTATS 2020, algorithm 3 (Neumann).
"""

import argparse
import contextlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import innerloop as il
from innerloop._files import atomic_path
from innerloop.compare.measure import interleaved, median_ratio, seconds

SAMPLES, FEATURES = 400, 60
SPREAD = 10.0
"""Ratio of the scales of the features; the condition of the Hessian is about its square."""
TOLERANCES = (1e-2, 1e-5)
LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320)
"""Budgets that are tried."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of parameters, logarithms of the weights of the samples, and the logarithm of the decay."""


class Task(NamedTuple):
    """An inner problem, as a loss and with its structure, and the outer loss of its minimum."""

    loss: Loss
    outer: Callable[[Tensor], Tensor]
    problem: Callable[[Tensor, Tensor], il.Problem]
    solvers: Mapping[str, tuple[il.Solver, il.Adjoint | None]]
    """Those that the structure allows, and how they are differentiated; None: `Implicit`."""
    init: Tensor
    hyper: tuple[Tensor, Tensor]


def _data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features and noisy targets to fit, and held out."""
    make = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=make, dtype=torch.float64)
    scales = torch.logspace(0, -math.log10(SPREAD), FEATURES, dtype=torch.float64)
    features = normal(2, SAMPLES, FEATURES) * scales
    targets = features @ (2 * normal(FEATURES)) + 0.5 * normal(2, SAMPLES)
    return features[0], targets[0], features[1], targets[1]


def _task(
    residual: Callable[[Tensor, Tensor, Tensor], Tensor],
    targets: tuple[Tensor, Tensor],
    problem: Callable[[Tensor, Tensor, Tensor, Tensor], il.Problem],
    solvers: Mapping[str, tuple[il.Solver, il.Adjoint | None]],
) -> Task:
    """A task whose loss is the weighted sum of a residual of every sample, plus the decay."""
    x, _, held_x, _ = _data()
    y, held_y = targets

    def loss(w: Tensor, log_weights: Tensor, log_decay: Tensor) -> Tensor:
        fit = (log_weights.exp() * residual(w, x, y)).sum()
        return fit + 0.5 * log_decay.exp() * w.square().sum()

    return Task(
        loss,
        lambda w: residual(w, held_x, held_y).mean(),
        lambda log_weights, log_decay: problem(x, y, log_weights.exp(), log_decay.exp()),
        solvers,
        torch.zeros(1, FEATURES, dtype=torch.float64),
        (torch.zeros(SAMPLES, dtype=torch.float64), torch.zeros((), dtype=torch.float64)),
    )


def ridge() -> Task:
    """Linear least squares."""
    _, y, _, held_y = _data()
    return _task(
        lambda w, x, y: 0.5 * (x @ w[0] - y).square(),
        (y, held_y),
        lambda x, y, weights, decay: il.LinearLeastSquares(
            x, y[:, None], weights.sqrt(), regularization=decay
        ),
        {
            "Ridge()": (il.Ridge(), il.Unroll()),
            "ConjugateGradient()": (il.ConjugateGradient(), None),
        },
    )


def logistic() -> Task:
    """Logistic regression of the targets' signs."""
    _, y, _, held_y = _data()
    labels, held_labels = ((part > 0).double() for part in (y, held_y))
    return _task(
        lambda w, x, y: F.binary_cross_entropy_with_logits(x @ w[0], y, reduction="none"),
        (labels, held_labels),
        lambda x, y, weights, decay: il.LogisticRegression(x, y[:, None], weights, decay),
        {
            "IRLS(), OneStep()": (il.IRLS(), il.OneStep()),
            "IRLS()": (il.IRLS(), None),
        },
    )


def nonlinear() -> Task:
    """Least squares of a saturating response."""
    _, y, _, held_y = _data()

    def problem(x: Tensor, y: Tensor, weights: Tensor, decay: Tensor) -> il.Problem:
        scale = weights.sqrt()
        return il.LeastSquares(lambda w: scale * (torch.tanh(x @ w[0]) - y), decay)

    return _task(
        lambda w, x, y: 0.5 * (torch.tanh(x @ w[0]) - y).square(),
        (0.8 * torch.tanh(y), 0.8 * torch.tanh(held_y)),
        problem,
        {
            "LevenbergMarquardt()": (il.LevenbergMarquardt(), None),
            "Newton(Exact()), OneStep()": (il.Newton(linear_solver=il.Exact()), il.OneStep()),
            "GaussNewton(Exact()), Implicit(Exact())": (
                il.GaussNewton(linear_solver=il.Exact()),
                il.Implicit(il.Exact(), accept=math.inf),
            ),
        },
    )


TASKS = {"ridge": ridge, "logistic": logistic, "nonlinear": nonlinear}


class Tuned(NamedTuple):
    """What the spectrum of the Hessian at the minimum gives every library."""

    rate: float
    momentum: float
    neumann: float


def minimum(task: Task) -> tuple[Tensor, Tensor]:
    """The minimum, and the Hessian there, by damped Newton steps."""
    w = task.init
    slope, curvature = torch.func.grad(task.loss), torch.func.hessian(task.loss)
    for _ in range(100):
        gradient = slope(w, *task.hyper).flatten()
        hessian = curvature(w, *task.hyper).reshape(FEATURES, FEATURES)
        if float(gradient.norm()) < 1e-11:
            return w, hessian
        # Far from the minimum the loss of `nonlinear` is not convex.
        least = float(torch.linalg.eigvalsh(hessian)[0])
        shifted = hessian + max(0.0, 1e-3 - 2 * least) * torch.eye(FEATURES).to(hessian)
        change, size, now = torch.linalg.solve(shifted, gradient), 1.0, task.loss(w, *task.hyper)
        while size > 1e-6 and task.loss(w - size * change, *task.hyper) > now:
            size /= 2
        w = w - size * change
    raise RuntimeError("Newton steps found no minimum")


def tuned(hessian: Tensor) -> Tuned:
    """The best rates for a quadratic of that Hessian (Polyak's momentum)."""
    low, high = (float(v) for v in torch.linalg.eigvalsh(hessian)[[0, -1]])
    roots = high**0.5 + low**0.5
    # Away from the minimum the curvature may be larger.
    return Tuned(2 / roots**2, ((high**0.5 - low**0.5) / roots) ** 2, 2 / (high + low))


def exact(task: Task) -> Tensor:
    """The hypergradient at the minimum, weights and decay side by side."""
    w, hessian = minimum(task)
    right = torch.func.grad(task.outer)(w).flatten()
    return _mixed(task, w, torch.linalg.solve(hessian, right).reshape(w.shape))


def _mixed(task: Task, w: Tensor, direction: Tensor) -> Tensor:
    """-(d²loss / dw dhyper) times a direction of w."""
    hyper = [h.clone().requires_grad_() for h in task.hyper]
    w = w.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(w, *hyper), w, create_graph=True)
    return -_flat(torch.autograd.grad(gradient, hyper, direction))


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts]).detach()


def _conjugate(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """Conjugate gradients from zero, in plain torch."""
    found, residual = torch.zeros_like(right), right
    direction, square = residual, residual.square().sum()
    least = 1e-24 * square
    for _ in range(steps):
        if square <= least:  # to the last digits
            break
        image = product(direction)
        size = square / (direction * image).sum()
        found, residual = found + size * direction, residual - size * image
        square, before = residual.square().sum(), square
        direction = residual + square / before * direction
    return found


Run = Callable[[int, int], Tensor]
"""The hypergradient for a number of inner steps and of linear steps."""


class Way(NamedTuple):
    """A way to the hypergradient; those without linear steps ignore the second number."""

    library: str
    run: Run
    linear: bool


def innerloop_way(
    task: Task, solver: il.Solver, adjoint: il.Adjoint | None, structured: bool = True
) -> Run:
    """With this library; `adjoint` None is `Implicit`."""

    def run(steps: int, linear: int) -> Tensor:
        hyper = [h.clone().requires_grad_() for h in task.hyper]
        problem = (
            task.problem(*hyper) if structured else il.Objective(lambda w: task.loss(w, *hyper))
        )
        rule = adjoint or il.Implicit(steps=linear, tolerance=1e-12, accept=math.inf)
        value = il.solve(problem, task.init, solver, steps=steps, adjoint=rule).value
        return _flat(torch.autograd.grad(task.outer(value), hyper))

    return run


def torchopt_way(task: Task, given: Tuned, implicit: bool) -> Run:
    """With TorchOpt: `sgd`, and the gradient through its steps, or `custom_root`."""
    import torchopt

    optimizer = torchopt.sgd(given.rate, given.momentum, moment_requires_grad=not implicit)

    def descend(w: Tensor, log_weights: Tensor, log_decay: Tensor, steps: int) -> Tensor:
        state = optimizer.init((w,))
        for _ in range(steps):
            loss = task.loss(w, log_weights, log_decay)
            gradient = torch.autograd.grad(loss, w, create_graph=not implicit)
            updates, state = optimizer.update(gradient, state, inplace=False)
            (w,) = torchopt.apply_updates((w,), updates, inplace=False)
            if implicit:
                w = w.detach().requires_grad_()
        return w

    def run(steps: int, linear: int) -> Tensor:
        hyper = [h.clone().requires_grad_() for h in task.hyper]
        start = task.init.clone().requires_grad_()
        if not implicit:
            value = descend(start, *hyper, steps)
        else:
            cg = torchopt.linear_solve.solve_cg(maxiter=linear, rtol=1e-12, atol=0.0)
            condition = torch.func.grad(task.loss)

            @torchopt.diff.implicit.custom_root(condition, argnums=(1, 2), solve=cg)
            def solve(w: Tensor, log_weights: Tensor, log_decay: Tensor) -> Tensor:
                with torch.enable_grad():
                    w = w.detach().requires_grad_()
                    return descend(w, log_weights.detach(), log_decay.detach(), steps).detach()

            value = solve(start, *hyper)
        return _flat(torch.autograd.grad(task.outer(value), hyper))

    return run


def betty_way(task: Task, given: Tuned, neumann: bool) -> Run:
    """As with Betty: steps of an optimizer, then products with the Hessian by autograd."""

    def run(steps: int, linear: int) -> Tensor:
        w = task.init.clone().requires_grad_()
        optimizer = torch.optim.SGD([w], given.rate, given.momentum)
        for _ in range(steps):
            optimizer.zero_grad()
            task.loss(w, *task.hyper).backward()
            optimizer.step()
        hyper = [h.clone().requires_grad_() for h in task.hyper]
        (right,) = torch.autograd.grad(task.outer(w), w)
        (gradient,) = torch.autograd.grad(task.loss(w, *hyper), w, create_graph=True)

        def product(direction: Tensor) -> Tensor:
            return torch.autograd.grad(gradient, w, direction, retain_graph=True)[0]

        if neumann:
            term = found = right
            for _ in range(linear):
                term = term - given.neumann * product(term)
                found = found + term
            found = given.neumann * found
        else:
            found = _conjugate(product, right, linear)
        return -_flat(torch.autograd.grad(gradient, hyper, found))

    return run


def _descended(task: Task, given: Tuned, steps: int, *hyper: Tensor) -> Tensor:
    """Gradient descent with momentum by torch.func."""
    slope = torch.func.grad(task.loss)
    w, velocity = task.init, torch.zeros_like(task.init)
    for _ in range(steps):
        velocity = given.momentum * velocity + slope(w, *hyper)
        w = w - given.rate * velocity
    return w


def functional_unrolled(task: Task, given: Tuned) -> Run:
    """By torch.func, through the steps."""

    def run(steps: int, linear: int) -> Tensor:
        def outer(log_weights: Tensor, log_decay: Tensor) -> Tensor:
            return task.outer(_descended(task, given, steps, log_weights, log_decay))

        return _flat(torch.func.grad(outer, argnums=(0, 1))(*task.hyper))

    return run


def functional_implicit(task: Task, given: Tuned) -> Run:
    """By torch.func, with conjugate gradients on forward-over-reverse products."""

    def run(steps: int, linear: int) -> Tensor:
        w = _descended(task, given, steps, *task.hyper)

        def slope(w: Tensor) -> Tensor:
            found: Tensor = torch.func.grad(task.loss)(w, *task.hyper)
            return found

        def product(direction: Tensor) -> Tensor:
            found: Tensor = torch.func.jvp(slope, (w,), (direction,))[1]
            return found

        return _mixed(task, w, _conjugate(product, torch.func.grad(task.outer)(w), linear))

    return run


def functional_dense(task: Task) -> Run:
    """By torch.func, Newton steps and the linear system with dense Hessians."""
    slope, curvature = torch.func.grad(task.loss), torch.func.hessian(task.loss)

    def solved(w: Tensor, right: Tensor) -> Tensor:
        hessian = curvature(w, *task.hyper).reshape(w.numel(), w.numel())
        return torch.linalg.solve(hessian, right.flatten()).reshape(w.shape)

    def run(steps: int, linear: int) -> Tensor:
        w = task.init
        for _ in range(steps):
            w = w - solved(w, slope(w, *task.hyper))
        return _mixed(task, w, solved(w, torch.func.grad(task.outer)(w)))

    return run


def ways(task: Task, given: Tuned) -> dict[str, Way]:
    """All ways to the hypergradient, by the names that the table has."""
    descent = il.GradientDescent(given.rate, momentum=given.momentum)
    found = {
        f"innerloop {name}": Way("innerloop", innerloop_way(task, solver, adjoint), adjoint is None)
        for name, (solver, adjoint) in task.solvers.items()
    }
    generic = partial(innerloop_way, task, structured=False)
    return {
        **found,
        "innerloop GradientDescent()": Way("innerloop", generic(descent, None), True),
        "innerloop GradientDescent(), Unroll()": Way(
            "innerloop", generic(descent, il.Unroll()), False
        ),
        "TorchOpt sgd, unrolled": Way("TorchOpt", torchopt_way(task, given, False), False),
        "TorchOpt custom_root, CG": Way("TorchOpt", torchopt_way(task, given, True), True),
        "as with Betty, Neumann": Way("Betty", betty_way(task, given, True), True),
        "as with Betty, CG": Way("Betty", betty_way(task, given, False), True),
        "torch.func, unrolled": Way("torch.func", functional_unrolled(task, given), False),
        "torch.func, CG": Way("torch.func", functional_implicit(task, given), True),
        "torch.func, dense Newton": Way("torch.func", functional_dense(task), False),
    }


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
