"""The implicit adjoint: the gradient of a minimum, however it was found."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from innerloop import trees
from innerloop.adjoints.base import Adjoint, Outcome, check_count
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, check_not_negative
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.linear import check_linear_solver, solve_linear
from innerloop.solvers.loop import Loop
from innerloop.trees import Tree


class _Minimum(torch.autograd.Function):
    """The minimum as a function of the gradient there: its derivative is −H⁻¹."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        solve: Callable[[tuple[Tensor, ...]], list[Tensor]],
        count: int,
        *leaves: Tensor,
    ) -> tuple[Tensor, ...]:
        return tuple(leaf.clone() for leaf in leaves[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.solve, ctx.count = inputs[:2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Any:
        return None, None, *(None,) * ctx.count, *(-leaf for leaf in ctx.solve(outer))


class Implicit(Adjoint):
    """Differentiate the condition that the gradient vanishes at the solution.

    With g(p, h) the gradient of the problem at the solution p for the hyperparameters h, the
    implicit function theorem gives dp/dh = −H⁻¹ ∂g/∂h: one linear system in the Hessian H for the
    outer gradient, and memory independent of the number of steps. It is the gradient of the exact
    minimum: right as far as the solver has converged, and zero for `init`. It can be taken once.

    Args:
        linear_solver: solver of the system. Default `ConjugateGradient()`; `Neumann(rate)` for a
            truncated series, `Exact()` for few parameters.
        steps: steps of the linear solver. Default 50.
        tolerance: stop it once its residual fell by this factor. Default 1e-10.

    Source:
        Rajeswaran et al., Meta-Learning with Implicit Gradients, NeurIPS 2019, lemma 1.
    """

    def __init__(
        self,
        linear_solver: Solver | None = None,
        *,
        steps: int = 50,
        tolerance: float = 1e-10,
    ) -> None:
        check_count("steps", steps)
        check_not_negative(tolerance=tolerance)
        self.linear_solver = linear_solver or ConjugateGradient()
        check_linear_solver(self.linear_solver)
        self.steps = steps
        self.tolerance = tolerance

    def check(self, problem: Problem, solver: Solver) -> None:
        decay = getattr(solver, "weight_decay", 0.0)
        if isinstance(decay, Tensor) or decay != 0:
            raise ValueError(
                "weight_decay: where it is not zero the solution is no minimum of the problem, as "
                "Implicit() needs; write the penalty into the problem, or use Unroll()"
            )

    def run(self, loop: Loop, init: Tree) -> Outcome:
        problem = loop.problem
        with torch.no_grad():
            progress = loop.advance(loop.begin(trees.detach(init)), loop.steps)
        solution = trees.detach(progress.params)
        _, gradient = problem.value_and_gradient(solution)
        gradient_leaves, spec = trees.flatten(gradient)

        def solve(outer: tuple[Tensor, ...]) -> list[Tensor]:
            return trees.leaves(
                solve_linear(
                    self.linear_solver,
                    problem.hessian_operator(solution),
                    trees.unflatten(list(outer), spec),
                    problem.batch_shape,
                    self.steps,
                    self.tolerance,
                )
            )

        leaves = _Minimum.apply(
            solve, len(gradient_leaves), *trees.leaves(solution), *gradient_leaves
        )
        # The zero term gives `init` a gradient of zero rather than none.
        value = trees.tree_map(
            lambda leaf, start: leaf + 0.0 * start, trees.unflatten(list(leaves), spec), init
        )
        return value, progress.reports
