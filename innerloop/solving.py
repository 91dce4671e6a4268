"""The one loop: minimise a problem with a solver, with an adjoint for the outer gradient."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import ordinary, outside_inference_mode, transforming
from innerloop._torch import pytree
from innerloop.adjoints import Adjoint, Auto, Detach, Unroll
from innerloop.problems import Solvable, as_problem
from innerloop.problems.checks import check_whole, named
from innerloop.solvers.base import (
    Solver,
    check_instance,
    check_not_negative,
)
from innerloop.solvers.loop import LinearSolve, Loop
from innerloop.solvers.reports import OnStep, Reports
from innerloop.solvers.state import SolverState, check_state
from innerloop.trees import Tree


class Status(enum.IntEnum):
    """How a solve ended; higher is worse. `sentence` says it in words."""

    sentence: str

    def __new__(cls, code: int, sentence: str) -> "Status":
        member = int.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    CONVERGED = 0, "the solution was reached: by a direct solve, or to the gradient tolerance"
    STEPS_USED_UP = 1, "all steps were taken; the gradient is still above the tolerance"
    BREAKDOWN = (
        2,
        "the direct solve failed: the system is not positive definite; "
        "a larger regularization makes it so",
    )
    NOT_FINITE = (
        3,
        "NaN or infinity appeared in the parameters or the losses; "
        "look for it in the problem's tensors, and at their scale",
    )


@dataclass(frozen=True)
class Stats:
    """The reports of the steps: tensors of shape (steps taken, *batch), without gradient."""

    losses: Tensor
    """Objective at the parameters that each step started from; ½ |F|² of equations F = 0."""
    gradient_norms: Tensor
    """Norm of the gradient at the parameters that each step started from; of solvers of equations
    F = 0, and of a `Composite`, |F|."""
    step_sizes: Tensor
    """Multiple of the direction that each step took."""
    linear_residuals: Tensor | None = None
    """Relative residual |H u - b| / |b| of each step's linear system, for solvers like `Newton`."""


@dataclass(frozen=True)
class Solution:
    """The result of a solve.

    Attributes:
        value: the parameters, structured like `init`, carrying the gradient that the adjoint gives.
        stats: losses, gradient norms and step sizes per step and problem.
        statuses: the `Status` code of every problem, shape (*batch), int64.
        state: what the solver remembers, for a solve that continues from here; None if it remembers
            nothing, or if the adjoint gives `value` a gradient that the state does not fit.
        linear: how well the linear system of an implicit gradient was solved, known once that
            gradient is taken; None without `Implicit()`.
        adjoint: which adjoint `Auto()` chose and why, a sentence; None without it.
        aux: what the loss returns at `value` besides its value, of the problem that the last step
            saw, differentiable as `value` is; None without `Objective(has_aux=True)`.
    """

    value: Tree
    stats: Stats
    statuses: Tensor
    state: SolverState | None = None
    linear: LinearSolve | None = None
    adjoint: str | None = None
    aux: Any = None

    def detach(self) -> "Solution":
        """The same without gradient, which can be copied and pickled."""
        fields = {
            name: pytree.tree_map_only(Tensor, Tensor.detach, value)
            for name, value in vars(self).items()
        }
        fields["state"] = None if self.state is None else self.state.detach()
        return replace(self, **fields)

    @property
    def status(self) -> Status:
        """The worst status in the batch."""
        codes = {int(status): status for status in Status}
        return codes[int(self.statuses.max())] if self.statuses.numel() else Status.CONVERGED


class SolveError(RuntimeError):
    """A solve failed numerically; `solution` holds what it reached, status included."""

    def __init__(self, solution: Solution) -> None:
        failed = int((solution.statuses >= Status.BREAKDOWN).sum())
        status = solution.status
        super().__init__(
            f"{failed} of {solution.statuses.numel()} problems: {status.name}: {status.sentence}"
        )
        self.solution = solution

    def __reduce__(self) -> tuple[type["SolveError"], tuple[Solution]]:
        # Rebuilt from its solution without graph, as no other process can have the graph.
        return type(self), (self.solution.detach(),)


class SolveOptions(TypedDict, total=False):
    """The options of `solve`, described there, which `adapt` takes too."""

    steps: int
    adjoint: Adjoint | Literal["auto"] | None
    tolerance: float
    throw: bool
    state: SolverState | None
    on_step: OnStep | None


def solve(
    problem: Solvable | Callable[[Tree], Tensor],
    init: Tree,
    solver: Solver,
    *,
    steps: int = 1,
    adjoint: Adjoint | Literal["auto"] | None = None,
    tolerance: float = 0.0,
    throw: bool = True,
    state: SolverState | None = None,
    on_step: OnStep | None = None,
) -> Solution:
    """Minimise `problem`, or solve its equations, from `init`.

    Args:
        problem: what is minimised: a `Problem`, or a function from parameters to a scalar loss;
            with a nonsmooth term or constraints, a `Composite`. Or equations: a `FixedPoint`, a
            `Root`, a `LinearSystem`.
        init: parameters to start from, a tensor or a tree of tensors; never changed.
        solver: how it is minimised, e.g. `SteepestDescent`.
        steps: number of steps, at least 0. A direct solver (`Ridge`) takes one. Default 1.
        adjoint: how the outer gradient comes back. "auto" stands for `Auto()`, which chooses by the
            memory that is free. Default `Unroll()`.
        tolerance: stop once every problem's gradient norm is at most this multiple of its first
            one. Default 0: take all steps. Under torch.compile and torch.func transforms, where the
            loop cannot branch on values, all steps are taken.
        throw: raise on numerical failure instead of returning the status. Default True. Under
            torch.compile and torch.func transforms nothing is raised; look at the status.
        state: `Solution.state` of an earlier solve whose value is `init` now: momentum, averages
            and so on continue from there, with their gradient unless the state is detached.
            Default: the solver starts fresh.
        on_step: called with the number of each step, from 0, and its `StepStats`, tensors that stay
            on their device until they are read: for logs and progress. With checkpoints it is
            called for the steps between two of them together, and under torch.compile and
            torch.func transforms not at all. Default: none.

    Returns:
        The solution with its statistics and status.

    Raises:
        TypeError, ValueError: an argument does not fit, or solver, problem and adjoint do not go
            together; the message names the argument and what works.
        SolveError: NaN, infinity or breakdown, unless `throw` is False.
    """
    if adjoint is None or adjoint == "auto":
        adjoint = Unroll() if adjoint is None else Auto()
    check_instance("solver", solver, Solver, "GradientDescent(0.1)")
    check_instance("adjoint", adjoint, Adjoint, "Unroll()")
    check_whole("steps", steps, 0)
    check_not_negative(tolerance=tolerance)
    if on_step is not None and not callable(on_step):
        raise TypeError(f"on_step: {named(on_step)}, should be a function of a number and a report")
    problem = as_problem(problem)
    solver.check(problem)
    adjoint.check(problem, solver)
    problem.check(init)
    taken = min(steps, 1) if solver.direct else steps

    with outside_inference_mode() as restored:
        if restored:
            init = trees.tree_map(ordinary, init)
        carried = check_state(state, solver, problem, init)
        loop = Loop(problem, solver, taken, tolerance, carried, on_step)
        value, reports, carried, linear, chosen = adjoint.run(loop, init)
        stats = _stats(reports, problem, init)
        statuses = _statuses(value, stats, reports, problem, solver, tolerance)
        reached = None if carried is None else SolverState(solver, problem, init, carried)
        # Once more, as the last step started from the parameters before.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not isinstance(adjoint, Detach)):
            aux = problem.at(max(len(reports), 1) - 1).aux(value)
        solution = Solution(value, stats, statuses, reached, linear, chosen, aux)
    if throw and not transforming() and solution.status >= Status.BREAKDOWN:
        raise SolveError(solution)
    return solution


def _stats(reports: Reports, problem: Solvable, init: Tree) -> Stats:
    stacked = reports.stacked()
    if stacked is None:
        empty = trees.leaves(init)[0].new_zeros(0, *problem.batch_shape)
        return Stats(empty, empty, empty)
    return Stats(*stacked)


def _statuses(
    value: Tree,
    stats: Stats,
    reports: Reports,
    problem: Solvable,
    solver: Solver,
    tolerance: float,
) -> Tensor:
    finite = _finite(value, len(problem.batch_shape))
    if not len(reports):
        return torch.where(finite, int(Status.STEPS_USED_UP), int(Status.NOT_FINITE))
    if solver.direct:
        statuses = torch.where(finite, int(Status.CONVERGED), int(Status.BREAKDOWN))
    else:
        done = reports.settled(tolerance)
        statuses = torch.where(done, int(Status.CONVERGED), int(Status.STEPS_USED_UP))
        statuses = torch.where(finite, statuses, int(Status.NOT_FINITE))
    sound = (stats.losses + stats.gradient_norms + stats.step_sizes).isfinite().all(0)
    return torch.where(sound, statuses, int(Status.NOT_FINITE))


def _finite(value: Tree, batch_dims: int) -> Tensor:
    """Whether all parameters of each problem are finite."""
    sound = []
    for leaf in trees.leaves(value):
        parts = leaf.detach().isfinite()
        sound.append(parts.flatten(batch_dims).all(-1) if leaf.ndim > batch_dims else parts)
    return torch.stack(sound).all(0) if len(sound) > 1 else sound[0]
