"""The implicit adjoint: the gradient of a minimum, however it was found."""

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import differentiated_around, transforming
from innerloop._primitive import Primitive
from innerloop.adjoints.base import Adjoint, constant
from innerloop.problems.base import Solvable
from innerloop.problems.checks import check_parameter, check_whole
from innerloop.solvers.base import Solver, check_not_negative
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.gmres import GMRES
from innerloop.solvers.linear import check_linear_solver, residual_and_scale, solve_linear
from innerloop.solvers.loop import LinearSolve, Loop, Outcome
from innerloop.trees import Tree


class LinearSolveError(RuntimeError):
    """The linear system of an implicit gradient was not solved: the gradient would be wrong."""


class _System:
    """The linear systems in the Hessian at a solution, for the gradient of that solution.

    The Hessian H stands for the derivative of the problem's condition, symmetric or not.

    Args:
        adjoint: says how they are solved, and what counts as solved.
        problem: the problem that was solved.
        solution: the parameters, without gradient.
        start: where the first system starts, structured like the solution; None for zero.
    """

    def __init__(
        self, adjoint: "Implicit", problem: Solvable, solution: Tree, start: Tree | None
    ) -> None:
        self.adjoint = adjoint
        self.start = start
        self.problem = problem
        self.report = LinearSolve()
        self._solution = solution
        self._spec = trees.flatten(solution)[1]
        self._scale = torch.zeros(())

    def solve(self, right: tuple[Tensor, ...], transposed: bool = True) -> tuple[Tensor, ...]:
        """The inverse of H, transposed or not, times `right`; H counts as a constant."""
        adjoint, batch_shape = self.adjoint, self.problem.batch_shape
        operator = self.problem.condition_operator(self._solution, transposed)
        wanted = trees.unflatten(list(right), self._spec)
        first = self.report.solution is None
        found = solve_linear(
            adjoint.linear_solver_of(self.problem),
            operator,
            wanted,
            batch_shape,
            adjoint.steps,
            adjoint.tolerance,
            self.problem.symmetric,
            self.start if first else None,
        )
        residual, scale = residual_and_scale(operator, found, wanted, batch_shape)
        if not transforming():
            # With order 2, the first system is that of the gradient; the others are compared with
            # it, as their right-hand sides are next to zero.
            scale = self._scale = torch.maximum(scale, self._scale.to(scale))
        residual = torch.where(residual == 0, 0.0, residual / scale)
        solved = residual <= adjoint.accept
        if transforming():

            def visible(leaf: Tensor) -> Tensor:
                return torch.where(trees.per_problem(solved, leaf).bool(), leaf, torch.nan)

            return tuple(map(visible, trees.leaves(found)))
        self.report.residual = residual
        if first:
            self.report.solution = trees.detach(found)
        if not bool(solved.all()):
            self._complain(residual, solved)
        return tuple(trees.leaves(found))

    def _complain(self, residual: Tensor, solved: Tensor) -> None:
        message = (
            f"adjoint: the linear system of Implicit() is not solved for {int((~solved).sum())} of "
            f"{solved.numel()} problems: |H u - b| / |b| is up to {residual.max().item():.2g}, "
            f"should be at most {self.adjoint.accept:g}, so the gradient is off; take more steps "
            "or another linear_solver, add a regularization to the problem, or raise accept"
        )
        # An infinite or NaN residual is no gradient at all.
        if self.adjoint.unsolved == "raise" or not bool(residual.isfinite().all()):
            raise LinearSolveError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


class _Inverse(Primitive):
    """The linear map v ↦ H⁻¹ v of a constant H, or that of its transpose."""

    @staticmethod
    def forward(system: _System, transposed: bool, *right: Tensor) -> tuple[Tensor, ...]:
        return system.solve(right, transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.system, ctx.transposed = inputs[:2]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        return None, None, *_Inverse.apply(ctx.system, not ctx.transposed, *outer)


class _Once(Primitive):
    """The identity of its first half, which refuses to be differentiated."""

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


class _Correction(Primitive):
    """The Newton step −H⁻¹ g from a minimum: zero, but for its derivative −H⁻¹ by the gradient."""

    @staticmethod
    def forward(system: _System, once: bool, *gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(leaf) for leaf in gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.system, ctx.once = inputs[:2]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        if not ctx.once:
            inverse = _Inverse.apply(ctx.system, True, *outer)
        else:
            with torch.no_grad():
                inverse = ctx.system.solve(outer)
            if torch.is_grad_enabled():
                inverse = _Once.apply(*inverse, *ctx.saved_tensors)
        return None, None, *(-leaf for leaf in inverse)


class Implicit(Adjoint):
    """Differentiate the condition that the gradient vanishes at the solution.

    With g(p, h) the gradient of the problem at the solution p for the hyperparameters h, the
    implicit function theorem gives dp/dh = −H⁻¹ ∂g/∂h: one linear system in the Hessian H for the
    outer gradient, and memory independent of the number of steps. It is the gradient of the exact
    minimum: as accurate as the solver has converged, and zero for `init`. Of equations, such as a
    `FixedPoint`, and of a `Composite`, g is what vanishes at the solution; its derivative H is not
    symmetric then.

    Besides the solver's calls, the loss is called `order` times for the gradient at the solution,
    and once for every linear system.

    Args:
        linear_solver: solver of the system. Default `ConjugateGradient()`, or `GMRES()` where it is
            not symmetric; `MINRES()` where the Hessian may be indefinite, `Nystrom(rank)` with few
            steps, `Neumann(rate)` for a truncated series, `Exact()` for few parameters.
            `ConjugateGradient` and `MINRES` take a preconditioner.
        steps: steps of the linear solver. Default 50.
        tolerance: stop the linear solver once its residual has fallen by this factor. Default
            1e-10.
        accept: max relative residual |H u − b| / |b| of a system that counts as solved; it is
            kept in `Solution.linear`. Default 1e-3.
        unsolved: what happens when the gradient is taken and a residual is larger: "raise" a
            `LinearSolveError`, or "warn". A residual that is not finite always raises. Under
            torch.compile and torch.func transforms neither is possible: there the gradient of a
            problem whose system is not solved is NaN. Default "raise".
        order: how often the solution can be differentiated: 2 makes the gradient of the gradient
            exact, for one more linear system, but not under torch.compile and torch.func
            transforms. Default: 1, plus one for every enclosing solve whose steps or solution are
            differentiated.
        start: parameters u from which the linear solver starts, structured like `init`: the
            `Solution.linear.solution` of the same problem before the last outer step, which saves
            linear steps. Its multiple with the smallest residual is taken, so that it changes only
            how soon the solution is found. Default: zero.

    Source:
        Rajeswaran et al., Meta-Learning with Implicit Gradients, NeurIPS 2019, lemma 1.
    """

    def __init__(
        self,
        linear_solver: Solver | None = None,
        *,
        steps: int = 50,
        tolerance: float = 1e-10,
        accept: float = 1e-3,
        unsolved: Literal["raise", "warn"] = "raise",
        order: int | None = None,
        start: Tree | None = None,
    ) -> None:
        check_whole("steps", steps, 1)
        if order is not None:
            check_whole("order", order, 1)
        check_not_negative(tolerance=tolerance, accept=accept)
        if unsolved not in ("raise", "warn"):
            raise ValueError(f"unsolved: {unsolved!r}, should be 'raise' or 'warn'")
        if linear_solver is not None:
            check_linear_solver(linear_solver)
        self.linear_solver = linear_solver
        self.steps = steps
        self.tolerance = tolerance
        self.accept = accept
        self.unsolved = unsolved
        self.order = order
        self.start = start

    def linear_solver_of(self, problem: Solvable) -> Solver:
        """The solver of the linear systems of a problem."""
        return self.linear_solver or (ConjugateGradient() if problem.symmetric else GMRES())

    def check(self, problem: Solvable, solver: Solver) -> None:
        check_linear_solver(self.linear_solver_of(problem), problem.symmetric)
        setting = solver.biased_by()
        if setting is not None:
            raise ValueError(
                f"{setting}: if it is not zero, the solution is not a minimum of the problem, "
                "which Implicit() needs; write the penalty into the problem, or use Unroll()"
            )

    def run(self, loop: Loop, init: Tree) -> Outcome:
        order = self.order or (1 if transforming() else 1 + differentiated_around())
        if order > 1 and transforming():
            raise ValueError(
                f"adjoint: Implicit(order={order}) does not work under torch.compile and "
                "torch.func transforms; Implicit() outside of other solves and Unroll() do"
            )
        start = None if self.start is None else _fitting(self.start, init)
        with torch.no_grad():
            outcome = loop.run(trees.detach(init))
        solution = trees.detach(outcome.params)
        spec = trees.flatten(solution)[1]
        system = _System(self, loop.problem, solution, start)
        value = solution
        # Each Newton step from the minimum makes one more derivative exact, whatever the
        # derivatives of its starting point.
        for _ in range(order):
            _, gradient = loop.problem.value_and_condition(value)
            correction = _Correction.apply(system, order == 1, *trees.leaves(gradient))
            value = trees.add(value, trees.unflatten(list(correction), spec))
        # The zero term gives `init` a gradient of zero rather than none.
        value = trees.tree_map(lambda leaf, start: leaf + 0.0 * start, value, init)
        carried = constant(loop, outcome.carried)
        return Outcome(value, outcome.reports, carried, system.report)


def _fitting(start: Tree, init: Tree) -> Tree:
    """`start` without gradient and structured like `init`; an error if it does not fit."""
    leaves = trees.leaves_like("start", start, init)
    for (name, like), leaf in zip(trees.named_leaves(init), leaves, strict=True):
        where = f"start[{name!r}]" if name else "start"
        check_parameter(where, leaf)
        if leaf.shape != like.shape or leaf.dtype != like.dtype:
            raise ValueError(
                f"{where}: {leaf.dtype} of shape {tuple(leaf.shape)}, should be {like.dtype} of "
                f"shape {tuple(like.shape)} like init"
            )
    return trees.unflatten([leaf.detach() for leaf in leaves], trees.flatten(init)[1])
