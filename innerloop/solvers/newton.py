"""Second-order methods: every step solves a linear system in the curvature."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.problems.base import CurvedProblem, Problem
from innerloop.solvers.base import Solver, StepStats, check_not_negative
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.direction import DirectionSolver, State
from innerloop.solvers.linear import (
    Exact,
    LeastNorm,
    check_linear_solver,
    residual_and_scale,
    solve_linear,
)
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


def damped(operator: Operator, damping: Any) -> Operator:
    """The operator plus `damping` (a number, or a tensor, one value per problem) times identity."""
    if isinstance(damping, int | float):
        if damping == 0:
            return operator
        damping = torch.tensor(damping, dtype=torch.float64)
    return lambda direction: trees.add_scaled(operator(direction), damping, direction)


_DIVERGED = 100.0
"""Relative residual above which a linear system's solution is useless, even as a rough one."""


class Newton(DirectionSolver):
    """Newton's method; it follows the gradient where the curvature is negative.

    A rough solution of the linear system still gives a step (truncated Newton); its residual is
    kept in `Stats.linear_residuals`. Where the linear solver diverged, as `Neumann` does if its
    rate is too large, the step follows the gradient. Where the system is solved, to half of the
    digits, the derivative of a step is that of the exact solution, by `linear_steps` more steps;
    where the steps ended before, and under torch.compile, it is that of the steps.

    Args:
        rate: multiple of the Newton step. Default 1; `Armijo()` makes it safe far from the minimum.
        damping: added to the Hessian. Default 0.
        linear_solver: solver of the Newton system. Default `ConjugateGradient()`; `Exact()` for few
            parameters.
        linear_steps: steps of the linear solver. Default 20.
        linear_tolerance: stop it once its residual has fallen by this factor. Default 1e-8.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, section 7.1.
    """

    symmetric: ClassVar[bool] = True
    """Whether the linear systems are symmetric."""

    def __init__(
        self,
        rate: Rate = 1.0,
        *,
        damping: float | Tensor = 0.0,
        linear_solver: Solver | None = None,
        linear_steps: int = 20,
        linear_tolerance: float = 1e-8,
    ) -> None:
        super().__init__(rate)
        check_not_negative(damping=damping, linear_tolerance=linear_tolerance)
        if linear_steps < 1:
            raise ValueError(f"linear_steps: {linear_steps}, should be at least 1")
        self.linear_solver = linear_solver or ConjugateGradient()
        check_linear_solver(self.linear_solver, self.symmetric)
        self.damping = damping
        self.linear_steps = linear_steps
        self.linear_tolerance = linear_tolerance

    def operator(self, problem: Any, params: Tree) -> Operator:
        """The curvature at `params`."""
        return problem.hessian_operator(params)  # type: ignore[no-any-return]

    def system(self, problem: Any, params: Tree, gradient: Tree) -> tuple[Operator, Tree]:
        """The operator and the right-hand side of the linear system of a step."""
        return damped(self.operator(problem, params), self.damping), trees.negative(gradient)

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tensor]:
        operator, right = self.system(problem, params, gradient)
        batch_shape = problem.batch_shape
        newton = solve_linear(
            self.linear_solver,
            operator,
            right,
            batch_shape,
            self.linear_steps,
            self.linear_tolerance,
            self.symmetric,
            transposed=None if self.symmetric else lambda: problem.condition_operator(params, True),
        )
        residual, scale = residual_and_scale(operator, newton, right, batch_shape)
        residual = torch.where(residual == 0, 0.0, residual / scale)
        # At a solution there is no way down, but the step has the derivative of Newton's.
        downward = (problem.dot(newton, gradient).detach() < 0) | (scale == 0)
        good = downward & (residual < _DIVERGED)

        def choose(newton: Tensor, gradient: Tensor) -> Tensor:
            # A NaN of a singular system is kept, to be reported.
            keep = trees.per_problem(good, newton).bool() | newton.isnan()
            return torch.where(keep, newton, -gradient)

        return trees.tree_map(choose, newton, gradient), residual

    def step(self, problem: Problem, params: Tree, state: State) -> tuple[Tree, State, StepStats]:
        moved, state, stats = super().step(problem, params, state)
        return moved, state, stats._replace(linear_residual=state.memory)


class GaussNewton(Newton):
    """The Gauss-Newton method for least squares: Newton's, with J'J for the Hessian.

    Where J is singular, conjugate gradients and `Exact()` both take the least-norm step that
    solves the system: nothing moves along directions that the residual does not depend on.

    Args:
        rate, damping, linear_solver, linear_steps, linear_tolerance: see `Newton`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, section 10.3.
    """

    solves = CurvedProblem

    def __init__(self, rate: Rate = 1.0, **arguments: Any) -> None:
        super().__init__(rate, **arguments)
        if type(self.linear_solver) is Exact:
            self.linear_solver = LeastNorm()

    def operator(self, problem: CurvedProblem, params: Tree) -> Operator:
        return problem.gauss_newton_operator(params)
