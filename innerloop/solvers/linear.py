"""Solvers for linear systems H u = b, the inner problem of Newton steps and implicit gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.maps.inverse import factorable
from innerloop.problems.base import LinearProblem, Quadratic, QuadraticProblem
from innerloop.problems.root import LinearSystem
from innerloop.solvers.base import (
    Solver,
    StepStats,
    check_not_negative,
    report,
    safe_quotient,
)
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.loop import Loop
from innerloop.solvers.minres import MINRES
from innerloop.solvers.probing import assembled, on_vectors
from innerloop.solvers.reports import Reports
from innerloop.solvers.solved import constant, solved
from innerloop.trees import Tree


class Exact(Solver):
    """Direct solver: assembles the matrix of the linear system column by column and factorises it.

    It costs as many products with the matrix as there are parameters in a problem; the matrix may
    be indefinite, or not symmetric.
    """

    direct = True
    solves = LinearProblem

    def init(self, problem: LinearProblem, params: Tree) -> None:
        return None

    def step(
        self, problem: LinearProblem, params: Tree, state: None
    ) -> tuple[Tree, None, StepStats]:
        loss, condition = problem.value_and_condition(params)
        batch_dims = len(problem.batch_shape)
        right = trees.ravel(condition, batch_dims)
        product = on_vectors(problem.condition_operator(params), params, batch_dims)
        matrix = factorable(assembled(product, right))
        change = self.solution(matrix, factorable(right)).to(right)
        change = trees.unravel(change, params, batch_dims)
        moved = trees.tree_map(torch.sub, params, change)
        return moved, None, report(problem, loss, condition, torch.ones_like(loss))

    def solution(self, matrix: Tensor, right: Tensor) -> Tensor:
        """u of H u = b; NaN where H is singular."""
        solution, info = torch.linalg.solve_ex(matrix, right.unsqueeze(-1))
        singular = (info != 0)[..., None]
        return solution.squeeze(-1).masked_fill(singular, torch.nan)  # type: ignore[no-any-return]


class LeastNorm(Exact):
    """Direct solver of consistent systems that may be singular: the least-norm solution."""

    solves = QuadraticProblem

    def solution(self, matrix: Tensor, right: Tensor) -> Tensor:
        finite = matrix.isfinite()
        inverse = torch.linalg.pinv(torch.where(finite, matrix, 0.0), hermitian=True)
        solution: Tensor = (inverse @ right.unsqueeze(-1)).squeeze(-1)
        return solution.masked_fill(~finite.all(-1).all(-1, keepdim=True), torch.nan)


class Neumann(Solver):
    """The Neumann series u = η Σ_k (1 − η A)^k b of a linear system A u = b.

    From zero, that is gradient descent where A is a Hessian, and fixed-point iteration elsewhere.

    Args:
        rate: η, below 2 / |A| for a Hessian: a number, or a tensor of shape () or (*batch).

    Source:
        Lorraine et al., Optimizing Millions of Hyperparameters by Implicit Differentiation, AISTATS
        2020, section 4.
    """

    solves = LinearProblem

    def __init__(self, rate: float | Tensor) -> None:
        check_not_negative(rate=rate)
        self.rate = rate

    def init(self, problem: LinearProblem, params: Tree) -> None:
        return None

    def step(
        self, problem: LinearProblem, params: Tree, state: None
    ) -> tuple[Tree, None, StepStats]:
        loss, condition = problem.value_and_condition(params)
        size = torch.as_tensor(self.rate, dtype=loss.dtype, device=loss.device)
        moved = trees.add_scaled(params, -size, condition)
        return moved, None, report(problem, loss, condition, size)


def solve_linear(
    solver: Solver,
    operator: Operator,
    right: Tree,
    batch_shape: torch.Size,
    steps: int,
    tolerance: float,
    symmetric: bool = True,
    start: Tree | None = None,
    transposed: Callable[[], Operator] | None = None,
) -> Tree:
    """Solve H u = right until |H u − right| is at most `tolerance` times |right|.

    It begins at u = 0, or at the multiple of `start` that has the smallest residual, which takes
    one more product. Where the system is solved, to half of the digits, the derivative is that of
    the solution, by as many more steps; where the steps ended before, it is theirs.

    Args:
        transposed: makes the transpose of H. Default: H is symmetric.
    """
    problem = (Quadratic if symmetric else LinearSystem)(operator, right, batch_shape)
    loop = Loop(problem, solver, 1 if solver.direct else steps, tolerance)
    if start is None:
        progress = loop.begin(trees.zeros_like(right))
    else:
        image = operator(start)
        multiple = safe_quotient(problem.dot(image, right), problem.dot(image, image))
        progress = loop.begin(trees.scale(multiple, start))
        progress = progress._replace(reports=Reports(_report_of_zero(problem)))
    found = loop.advance(progress, loop.steps).params
    if solver.direct or constant((found, right)):
        return found
    transpose = transposed or (lambda: operator)

    def inverse(right: Tree, flipped: bool) -> Tree:
        return solve_linear(
            _of_any_right_side(solver),
            transpose() if flipped else operator,
            right,
            batch_shape,
            steps,
            tolerance,
            symmetric,
            transposed=(lambda: operator) if flipped else transpose,
        )

    residual, scale = residual_and_scale(operator, found, right, batch_shape)
    which = residual <= torch.finfo(residual.dtype).eps ** 0.5 * scale
    return solved(found, operator, right, which, inverse)


def _of_any_right_side(solver: Solver) -> Solver:
    """The solver, or one like it that solves singular systems in the sense of least squares.

    The right-hand side of a singular system may be one that H reaches, but not its derivative.
    """
    if isinstance(solver, ConjugateGradient):
        return MINRES(solver.preconditioner)
    return solver


def _report_of_zero(problem: Quadratic | LinearSystem) -> Reports:
    """The report of a step from zero, to which the tolerance refers."""
    square = problem.dot(problem.right, problem.right).detach()
    reports = Reports()
    reports.add(StepStats(torch.zeros_like(square), square.sqrt(), torch.zeros_like(square)))
    return reports


def residual_and_scale(
    operator: Operator, solution: Tree, right: Tree, batch_shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """|H u − b| and |b| of every system, each of shape `batch_shape`, without gradient."""
    with torch.no_grad():
        solution, right = trees.detach(solution), trees.detach(right)
        left_over = trees.tree_map(torch.sub, operator(solution), right)
        residual, scale = (
            trees.dot(vector, vector, len(batch_shape)).sqrt() for vector in (left_over, right)
        )
    return residual, scale


def check_linear_solver(solver: Solver, symmetric: bool = True) -> None:
    """Raise TypeError unless `solver` solves linear systems, of which all or some are symmetric."""
    kind = Quadratic if symmetric else LinearSystem
    if not (isinstance(solver, Solver) and issubclass(kind, solver.solves)):
        name = solver.__name__ if isinstance(solver, type) else type(solver).__name__
        systems = (
            "linear systems; ConjugateGradient(), MINRES(), Nystrom(),"
            if symmetric
            else "linear systems that are not symmetric;"
        )
        raise TypeError(
            f"linear_solver: {name} does not solve {systems} GMRES(), Neumann(rate) and Exact() do"
        )
