"""Suites whose inner problem has an exact solution: solvers and adjoints as rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from innerloop import trees
from innerloop.adjoints import (
    Adjoint,
    Auto,
    FiniteDifference,
    Implicit,
    OneStep,
    Truncate,
    Unroll,
)
from innerloop.compare import registry
from innerloop.compare.suite import Clock, Outcome, Row, Run, Suite, differentiate
from innerloop.errors import InputError
from innerloop.problems import ClosedFormProblem, QuadraticProblem, Solvable
from innerloop.solvers import (
    Armijo,
    ConjugateGradient,
    Exact,
    GradientDescent,
    Newton,
    Ridge,
    Solver,
    SteepestDescent,
)
from innerloop.solving import solve
from innerloop.trees import Tree


@dataclass(frozen=True)
class Bilevel:
    """An inner problem, and the outer loss of its solution.

    Attributes:
        hyper: the meta-parameters, a tree of floating-point tensors, which get the outer gradient.
        problem: maps the meta-parameters to the inner problem.
        init: parameters from which the inner solvers start.
        outer: maps the inner solution and the meta-parameters to a scalar.
        solution: maps the meta-parameters to the exact solution, differentiably, where that is
            known. Default: closed form where the problem has one, else Newton steps and the
            implicit function theorem.
    """

    hyper: Tree
    problem: Callable[[Tree], Solvable]
    init: Tree
    outer: Callable[[Tree, Tree], Tensor]
    solution: Callable[[Tree], Tree] | None = None


Make = Callable[[torch.dtype], Bilevel]
"""Makes the bilevel problem in a dtype, the same at every call."""

SOLVERS: Mapping[str, Solver] = {
    "gradient descent (Armijo)": GradientDescent(Armijo()),
    "steepest descent": SteepestDescent(),
    "conjugate gradient": ConjugateGradient(),
    "Newton (Armijo)": Newton(Armijo()),
    "ridge (closed form)": Ridge(),
}


def default_adjoints(steps: int) -> Mapping[str, Adjoint]:
    """Every adjoint for `steps` steps that gives meta-parameters of any kind a gradient."""
    return {
        "Unroll(checkpoint)": Unroll(checkpoint=max(1, round(steps**0.5))),
        f"Truncate({max(1, steps // 2)})": Truncate(max(1, steps // 2)),
        "OneStep()": OneStep(),
        "FiniteDifference()": FiniteDifference(),
        "Auto(1 MB)": Auto(1e6),
        # Rough solutions are accepted, as the error of the gradient is compared.
        "Implicit(steps=5)": Implicit(steps=5, accept=math.inf),
        "Implicit(steps=50)": Implicit(steps=50, accept=math.inf),
    }


def bilevel_suite(
    description: str,
    make: Make,
    *,
    steps: int,
    solvers: Mapping[str, Solver] = SOLVERS,
    adjoints: Mapping[str, Adjoint] | None = None,
    baseline: str | None = None,
    adjoint_solver: str | None = None,
) -> Suite:
    """A suite with a row for every solver, by unrolling, and one for every adjoint of one solver.

    Solvers and adjoints that users added (`add_solver`, `add_adjoint`) are included. Those that do
    not fit the problem are left out.

    Args:
        description: the problem and its size, one line.
        make: makes the problem.
        steps: inner steps of every row.
        solvers: solvers by name. Default: `SOLVERS`.
        adjoints: adjoints by name. Default: `default_adjoints(steps)`.
        baseline: the solver that the others are divided by. Default: the first that applies.
        adjoint_solver: the solver under which adjoints are compared. Default: the baseline.

    Raises:
        InputError: no solver applies to the problem, or `make` does not make what it should.
    """
    example = _checked(make, torch.float64)
    problem = example.problem(example.hyper)
    solvers = {**solvers, **registry.SOLVERS}
    applying = {name: solver for name, solver in solvers.items() if _applies(problem, solver)}
    if not applying:
        raise InputError(
            f"none of the solvers ({', '.join(solvers)}) solves {type(problem).__name__}"
        )
    baseline = baseline or next(iter(applying))
    through = adjoint_solver or baseline
    rows = solver_rows(make, applying, steps)
    adjoints = default_adjoints(steps) if adjoints is None else adjoints
    for name, adjoint in {**adjoints, **registry.ADJOINTS}.items():
        try:
            adjoint.check(problem, applying[through])
        except (TypeError, ValueError):
            continue
        prepare = partial(_prepare, make, applying[through], adjoint, steps)
        rows.append(Row(f"{through} + {name}", "adjoint", prepare))
    return Suite(
        description,
        partial(exact_outcome, make),
        "the gradient at the exact solution",
        baseline,
        rows,
        steps,
    )


def solver_rows(make: Make, solvers: Mapping[str, Solver], steps: int) -> list[Row]:
    """A row for every solver, by unrolling.

    Args:
        make: makes the problem.
        solvers: solvers of the problem by name.
        steps: inner steps of every row.
    """
    return [
        Row(name, "solver", partial(_prepare, make, solver, Unroll(), steps), exact=solver.direct)
        for name, solver in solvers.items()
    ]


def add_problem(name: str, make: Make, *, steps: int = 20) -> None:
    """Add a suite that compares solvers and adjoints on your own problem.

    Args:
        name: name of the suite, as in `--suite`.
        make: makes the problem, a `Bilevel`, in a dtype.
        steps: inner steps of every row. Default 20.

    Raises:
        InputError: there is a suite of that name, or `steps` is not positive.
    """
    if steps < 1:
        raise InputError(f"steps: {steps} of problem {name!r}, should be at least 1")
    registry.add_suite(name, lambda quick: bilevel_suite(name, make, steps=steps))


def exact_outcome(make: Make) -> Outcome:
    """Solution, loss and meta-gradient of a bilevel problem, exact to double precision.

    Raises:
        InputError: the problem has no minimum that Newton steps find.
    """
    bilevel = _checked(make, torch.float64)

    def outer(hyper: Tree) -> tuple[Tensor, Tree]:
        value = (bilevel.solution or partial(_minimum, bilevel))(hyper)
        return bilevel.outer(value, hyper), value

    _, gradient, value = differentiate(outer, bilevel.hyper, Clock())
    value = trees.detach(value)
    loss = bilevel.problem(bilevel.hyper).loss(value).sum()
    return Outcome(loss, gradient, trees.leaves(value))


def _minimum(bilevel: Bilevel, hyper: Tree) -> Tree:
    problem = bilevel.problem(hyper)
    if isinstance(problem, ClosedFormProblem):
        return solve(problem, bilevel.init, Ridge()).value
    if isinstance(problem, QuadraticProblem):
        return solve(problem, bilevel.init, Exact()).value
    tolerance = 1e-10
    # Conjugate gradients need as many steps as there are parameters, and more for rounding.
    linear_steps = min(1000, 10 * sum(leaf.numel() for leaf in trees.leaves(bilevel.init)))
    solution = solve(
        problem,
        bilevel.init,
        Newton(Armijo(), linear_steps=linear_steps, linear_tolerance=1e-12),
        steps=200,
        tolerance=tolerance,
        adjoint=Implicit(steps=linear_steps, tolerance=1e-14),
    )
    norms = solution.stats.gradient_norms
    if not bool((norms[-1] <= tolerance * norms[0]).all()):
        raise InputError(
            "the problem has no exact solution to compare with: 200 Newton steps leave a gradient "
            f"of {norms[-1].max():.1e}; make it strictly convex, or give Bilevel a solution"
        )
    return solution.value


def _prepare(make: Make, solver: Solver, adjoint: Adjoint, steps: int, dtype: torch.dtype) -> Run:
    bilevel = _checked(make, dtype)

    def outer(hyper: Tree) -> tuple[Tensor, tuple[Tree, Tensor]]:
        solution = solve(bilevel.problem(hyper), bilevel.init, solver, steps=steps, adjoint=adjoint)
        return bilevel.outer(solution.value, hyper), (solution.value, solution.stats.losses)

    def run(clock: Clock) -> Outcome:
        _, gradient, (value, losses) = differentiate(outer, bilevel.hyper, clock)
        value = trees.detach(value)
        with torch.no_grad():
            reached = bilevel.problem(bilevel.hyper).loss(value)
        # Over a batch of problems the suite reports the sum.
        curve = torch.cat([losses, reached[None]]).reshape(len(losses) + 1, -1).sum(1)
        return Outcome(curve[-1], gradient, trees.leaves(value), curve)

    return run


def _applies(problem: Solvable, solver: Solver) -> bool:
    try:
        solver.check(problem)
    except TypeError:
        return False
    return True


def _checked(make: Make, dtype: torch.dtype) -> Bilevel:
    bilevel = make(dtype)
    if not isinstance(bilevel, Bilevel):
        raise InputError(f"the problem's function returned {bilevel!r}, should be a Bilevel")
    for where, tree in (("hyper", bilevel.hyper), ("init", bilevel.init)):
        for name, leaf in trees.named_leaves(tree):
            if not isinstance(leaf, Tensor) or leaf.dtype != dtype:
                found = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
                raise InputError(
                    f"{where}{f'[{name!r}]' if name else ''}: {found}, should be a tensor of the "
                    f"dtype that was asked for, {dtype}"
                )
    return bilevel
