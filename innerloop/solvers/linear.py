"""Solvers for linear systems H u = b, the inner problem of Newton steps and implicit gradients."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.maps.inverse import factorable
from innerloop.problems.base import Quadratic, QuadraticProblem
from innerloop.solvers.base import Solver, StepStats, report
from innerloop.solvers.gradient import GradientDescent
from innerloop.solvers.loop import Loop
from innerloop.trees import Tree


class Exact(Solver):
    """Direct solver: assembles the matrix of the quadratic form column by column and factorises it.

    It costs as many products with the Hessian as there are parameters in a problem; the matrix may
    be indefinite.
    """

    direct = True
    solves = QuadraticProblem

    def init(self, problem: QuadraticProblem, params: Tree) -> None:
        return None

    def step(
        self, problem: QuadraticProblem, params: Tree, state: None
    ) -> tuple[Tree, None, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        batch_dims = len(problem.batch_shape)
        right = trees.ravel(gradient, batch_dims)
        operator = problem.gauss_newton_operator(params)
        matrix = factorable(assembled(on_vectors(operator, params, batch_dims), right))
        change = self.solution(matrix, factorable(right)).to(right)
        change = trees.unravel(change, params, batch_dims)
        moved = trees.tree_map(torch.sub, params, change)
        return moved, None, report(problem, loss, gradient, torch.ones_like(loss))

    def solution(self, matrix: Tensor, right: Tensor) -> Tensor:
        """u of H u = b; NaN where H is singular."""
        solution, info = torch.linalg.solve_ex(matrix, right.unsqueeze(-1))
        singular = (info != 0)[..., None]
        return solution.squeeze(-1).masked_fill(singular, torch.nan)  # type: ignore[no-any-return]


def on_vectors(operator: Operator, params: Tree, batch_dims: int) -> Operator:
    """The same map between vectors, shape (*batch, n), of parameters side by side."""

    def product(vector: Tensor) -> Tensor:
        return trees.ravel(operator(trees.unravel(vector, params, batch_dims)), batch_dims)

    return product


def assembled(product: Operator, like: Tensor) -> Tensor:
    """The matrix (*batch, n, n) of a linear map of vectors shaped like `like`, (*batch, n)."""
    units = torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
    return torch.stack([product(unit.expand_as(like)) for unit in units], -1)


class LeastNorm(Exact):
    """Direct solver of consistent systems that may be singular: the least-norm solution."""

    def solution(self, matrix: Tensor, right: Tensor) -> Tensor:
        finite = matrix.isfinite()
        inverse = torch.linalg.pinv(torch.where(finite, matrix, 0.0), hermitian=True)
        solution: Tensor = (inverse @ right.unsqueeze(-1)).squeeze(-1)
        return solution.masked_fill(~finite.all(-1).all(-1, keepdim=True), torch.nan)


class Neumann(GradientDescent):
    """The Neumann series u = η Σ_k (1 − η H)^k b, which is gradient descent from zero.

    Args:
        rate: η, below 2 / |H|.

    Source:
        Lorraine et al., Optimizing Millions of Hyperparameters by Implicit Differentiation, AISTATS
        2020, section 4.
    """

    def __init__(self, rate: float | Tensor) -> None:
        super().__init__(rate)


def solve_linear(
    solver: Solver,
    operator: Operator,
    right: Tree,
    batch_shape: torch.Size,
    steps: int,
    tolerance: float,
) -> Tree:
    """Solve H u = right from u = 0."""
    loop = Loop(
        Quadratic(operator, right, batch_shape), solver, 1 if solver.direct else steps, tolerance
    )
    return loop.advance(loop.begin(trees.zeros_like(right)), loop.steps).params


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


def check_linear_solver(solver: Solver) -> None:
    """Raise TypeError unless `solver` solves quadratic problems."""
    if not (isinstance(solver, Solver) and issubclass(Quadratic, solver.solves)):
        name = solver.__name__ if isinstance(solver, type) else type(solver).__name__
        raise TypeError(
            f"linear_solver: {name} does not solve linear systems; ConjugateGradient(), "
            "Neumann(rate) and Exact() do"
        )
