"""Newton's method for systems of equations."""

from typing import Any

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.problems.root import Root
from innerloop.solvers.base import Solver, StepStats
from innerloop.solvers.direction import State
from innerloop.solvers.gmres import GMRES
from innerloop.solvers.newton import Newton
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class NewtonRaphson(Newton):
    """Newton's method for equations F(p) = 0: every step solves J d = −F in the Jacobian J.

    A rough solution of the linear system still gives a step (Newton-Krylov); its residual is kept
    in `Stats.linear_residuals`. Where d does not lower |F|, the step follows the gradient of
    ½ |F|².

    Args:
        rate: multiple of the step. Default 1; `Armijo()` makes it safe far from the solution.
        linear_solver: solver of the linear system. Default `GMRES()`, which takes products with J;
            `Exact()` assembles J, for few parameters.
        linear_steps, linear_tolerance: see `Newton`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithms 11.1 and 11.4.
    """

    solves = Root
    symmetric = False

    def __init__(
        self,
        rate: Rate = 1.0,
        *,
        linear_solver: Solver | None = None,
        linear_steps: int = 20,
        linear_tolerance: float = 1e-8,
    ) -> None:
        super().__init__(
            rate,
            linear_solver=linear_solver or GMRES(),
            linear_steps=linear_steps,
            linear_tolerance=linear_tolerance,
        )

    def system(self, problem: Any, params: Tree, gradient: Tree) -> tuple[Operator, Tree]:
        return problem.condition_operator(params), trees.negative(problem.residual(params))

    def step(self, problem: Any, params: Tree, state: State) -> tuple[Tree, State, StepStats]:
        moved, state, stats = super().step(problem, params, state)
        return moved, state, stats._replace(gradient_norm=(2 * stats.loss).sqrt())
