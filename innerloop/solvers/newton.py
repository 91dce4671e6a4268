"""Second-order methods: a linear system in the curvature at every step."""

from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.autodiff import Operator
from innerloop.problems.base import CurvedProblem, Problem
from innerloop.solvers.base import Solver, StepStats, check_not_negative, report
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.direction import DirectionSolver
from innerloop.solvers.linear import check_linear_solver, solve_linear
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


def damped(operator: Operator, damping: Any) -> Operator:
    """The operator plus `damping` (a number, or a tensor with one value a problem) times one."""
    if isinstance(damping, int | float):
        if damping == 0:
            return operator
        damping = torch.tensor(damping, dtype=torch.float64)
    return lambda direction: trees.add_scaled(operator(direction), damping, direction)


class Newton(DirectionSolver):
    """Newton's method; where the curvature is negative it follows the gradient.

    Args:
        rate: multiple of the Newton step. Default 1; `Armijo()` makes it safe far from the minimum.
        damping: added to the Hessian. Default 0.
        linear_solver: solver of the Newton system. Default `ConjugateGradient()`; `Exact()` for few
            parameters.
        linear_steps: steps of the linear solver. Default 20.
        linear_tolerance: stop it once its residual fell by this factor. Default 1e-8.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, section 7.1.
    """

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
        check_linear_solver(self.linear_solver)
        self.damping = damping
        self.linear_steps = linear_steps
        self.linear_tolerance = linear_tolerance

    def operator(self, problem: Any, params: Tree) -> Operator:
        """The curvature at `params`."""
        return problem.hessian_operator(params)  # type: ignore[no-any-return]

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tree]:
        newton = solve_linear(
            self.linear_solver,
            damped(self.operator(problem, params), self.damping),
            trees.negative(gradient),
            problem.batch_shape,
            self.linear_steps,
            self.linear_tolerance,
        )
        downhill = problem.dot(newton, gradient).detach() < 0

        def choose(newton: Tensor, gradient: Tensor) -> Tensor:
            # A NaN of a singular system is kept, to be reported.
            keep = trees.per_problem(downhill, newton).bool() | newton.isnan()
            return torch.where(keep, newton, -gradient)

        return trees.tree_map(choose, newton, gradient), None


class GaussNewton(Newton):
    """The Gauss-Newton method for least squares: Newton's, with J'J for the Hessian.

    Args:
        rate, damping, linear_solver, linear_steps, linear_tolerance: as of `Newton`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, section 10.3.
    """

    solves = CurvedProblem

    def operator(self, problem: CurvedProblem, params: Tree) -> Operator:
        return problem.gauss_newton_operator(params)


class LevenbergMarquardt(Solver):
    """Gauss-Newton steps damped until they decrease the loss.

    A step that would increase the loss is not taken; the damping grows by `increase` instead, and
    shrinks by `decrease` after a step that is taken.

    Args:
        damping: of the first step, added to J'J. Default 0.001.
        increase: factor after a refused step, above 1. Default 10.
        decrease: factor after a step, below 1. Default 0.1.
        linear_solver, linear_steps, linear_tolerance: as of `Newton`.

    Source:
        Marquardt, An Algorithm for Least-Squares Estimation of Nonlinear Parameters, 1963.
    """

    solves = CurvedProblem

    def __init__(
        self,
        damping: float | Tensor = 1e-3,
        *,
        increase: float = 10.0,
        decrease: float = 0.1,
        linear_solver: Solver | None = None,
        linear_steps: int = 20,
        linear_tolerance: float = 1e-8,
    ) -> None:
        check_not_negative(damping=damping)
        if not (increase > 1 > decrease > 0):
            raise ValueError(
                f"increase, decrease: {increase}, {decrease}, should lie above and below 1"
            )
        self.damping = damping
        self.increase = increase
        self.decrease = decrease
        self.inner = GaussNewton(
            linear_solver=linear_solver,
            linear_steps=linear_steps,
            linear_tolerance=linear_tolerance,
        )

    def init(self, problem: CurvedProblem, params: Tree) -> Tensor:
        leaf = trees.leaves(params)[0]
        value = torch.as_tensor(self.damping, dtype=leaf.dtype, device=leaf.device)
        return value.expand(problem.batch_shape)

    def step(
        self, problem: CurvedProblem, params: Tree, state: Tensor
    ) -> tuple[Tree, Tensor, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        change = solve_linear(
            self.inner.linear_solver,
            damped(problem.gauss_newton_operator(params), state),
            trees.negative(gradient),
            problem.batch_shape,
            self.inner.linear_steps,
            self.inner.linear_tolerance,
        )
        with torch.no_grad():
            reached = problem.loss(trees.add(params, change))
            # A NaN in the present loss is taken along, to be reported.
            better = ~(reached > loss) & reached.isfinite() | loss.isnan()
        moved = trees.tree_map(
            lambda p, c: p + torch.where(trees.per_problem(better, p).bool(), c, 0.0),
            params,
            change,
        )
        factor = torch.where(better, self.decrease, self.increase).to(state.dtype)
        taken = better.to(loss.dtype)
        return moved, state * factor, report(problem, loss, gradient, taken)
