"""The implicit adjoint: the gradient of a minimum, however it was found."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.adjoints.base import Adjoint, check_count
from innerloop.autodiff import transforming
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, check_not_negative
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.linear import check_linear_solver, solve_linear
from innerloop.solvers.loop import Loop, Outcome
from innerloop.trees import Tree

Solve = Callable[[tuple[Tensor, ...]], list[Tensor]]


class _Inverse(torch.autograd.Function):
    """The linear map v ↦ H⁻¹ v of a constant symmetric H."""

    generate_vmap_rule = True

    @staticmethod
    def forward(solve: Solve, *right: Tensor) -> tuple[Tensor, ...]:
        return tuple(solve(right))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.solve = inputs[0]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        return None, *_Inverse.apply(ctx.solve, *outer)


class _Once(torch.autograd.Function):
    """The identity of its first half, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in tensors[: len(tensors) // 2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        raise RuntimeError(
            "adjoint: the gradient of Implicit() can be taken once; Implicit(order=2) gives the "
            "gradient of the gradient"
        )


class _Correction(torch.autograd.Function):
    """The Newton step −H⁻¹ g from a minimum: zero, but for its derivative −H⁻¹ by the gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(solve: Solve, once: bool, *gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(leaf) for leaf in gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.solve, ctx.once = inputs[:2]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        if not ctx.once:
            inverse = _Inverse.apply(ctx.solve, *outer)
        else:
            with torch.no_grad():
                inverse = tuple(ctx.solve(outer))
            if torch.is_grad_enabled():
                inverse = _Once.apply(*inverse, *ctx.saved_tensors)
        return None, None, *(-leaf for leaf in inverse)


class Implicit(Adjoint):
    """Differentiate the condition that the gradient vanishes at the solution.

    With g(p, h) the gradient of the problem at the solution p for the hyperparameters h, the
    implicit function theorem gives dp/dh = −H⁻¹ ∂g/∂h: one linear system in the Hessian H for the
    outer gradient, and memory independent of the number of steps. It is the gradient of the exact
    minimum: right as far as the solver has converged, and zero for `init`.

    Args:
        linear_solver: solver of the system. Default `ConjugateGradient()`; `Neumann(rate)` for a
            truncated series, `Exact()` for few parameters.
        steps: steps of the linear solver. Default 50.
        tolerance: stop it once its residual fell by this factor. Default 1e-10.
        order: how often the solution can be differentiated: 2 makes the gradient of the gradient
            exact, at one more linear system, but not under torch.compile and torch.func
            transforms. Default 1.

    Source:
        Rajeswaran et al., Meta-Learning with Implicit Gradients, NeurIPS 2019, lemma 1.
    """

    def __init__(
        self,
        linear_solver: Solver | None = None,
        *,
        steps: int = 50,
        tolerance: float = 1e-10,
        order: int = 1,
    ) -> None:
        check_count("steps", steps)
        check_count("order", order)
        check_not_negative(tolerance=tolerance)
        self.linear_solver = linear_solver or ConjugateGradient()
        check_linear_solver(self.linear_solver)
        self.steps = steps
        self.tolerance = tolerance
        self.order = order

    def check(self, problem: Problem, solver: Solver) -> None:
        decay = getattr(solver, "weight_decay", 0.0)
        if isinstance(decay, Tensor) or decay != 0:
            raise ValueError(
                "weight_decay: where it is not zero the solution is no minimum of the problem, as "
                "Implicit() needs; write the penalty into the problem, or use Unroll()"
            )

    def run(self, loop: Loop, init: Tree) -> Outcome:
        if self.order > 1 and transforming():
            raise ValueError(
                "adjoint: Implicit(order=2) does not work under torch.compile and torch.func "
                "transforms; Implicit() and Unroll() do"
            )
        problem = loop.problem
        with torch.no_grad():
            outcome = loop.run(trees.detach(init))
        solution = trees.detach(outcome.params)
        spec = trees.flatten(solution)[1]

        def solve(right: tuple[Tensor, ...]) -> list[Tensor]:
            return trees.leaves(
                solve_linear(
                    self.linear_solver,
                    problem.hessian_operator(solution),
                    trees.unflatten(list(right), spec),
                    problem.batch_shape,
                    self.steps,
                    self.tolerance,
                )
            )

        value = solution
        # Each Newton step from the minimum is exact in one more derivative, whatever those of
        # the point it starts from.
        for _ in range(self.order):
            _, gradient = problem.value_and_gradient(value)
            correction = _Correction.apply(solve, self.order == 1, *trees.leaves(gradient))
            value = trees.add(value, trees.unflatten(list(correction), spec))
        # The zero term gives `init` a gradient of zero rather than none.
        value = trees.tree_map(lambda leaf, start: leaf + 0.0 * start, value, init)
        return Outcome(value, outcome.reports)
