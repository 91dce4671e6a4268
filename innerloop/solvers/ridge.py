"""The exact solution of linear least squares in closed form."""

import math
from typing import Literal

import torch
from torch import Tensor

from innerloop.maps.inverse import factorable, solve_positive
from innerloop.problems.base import ClosedFormProblem, Solvable
from innerloop.problems.linear import RidgeProblem
from innerloop.solvers.base import Solver, StepStats, public_names, report


class Ridge(Solver):
    """Direct solver: one Cholesky factorisation of the normal equations, primal or dual.

    With X the rows of features (of a convolution: the patches of all frames, N·H·W rows and C·K²
    columns), the solution is (Xᵀ W² X + λ)⁻¹ Xᵀ W² E in primal form, and Xᵀ W (W X Xᵀ W + λ)⁻¹ W E
    in dual form, whose system has one row per sample: it is smaller for few samples of many
    channels. `NormalEquations` has no samples, and is solved in primal form.

    Args:
        form: which of the two systems to factorise; "auto" (the default) takes the smaller one. The
            dual form needs a positive regularization.

    Source:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019, eqs. 4
        and 6 (Woodbury).
    """

    direct = True
    solves = ClosedFormProblem

    def __init__(self, form: Literal["auto", "primal", "dual"] = "auto") -> None:
        if form not in ("auto", "primal", "dual"):
            raise ValueError(f"form: {form!r}, should be 'auto', 'primal' or 'dual'")
        self.form = form

    def init(self, problem: ClosedFormProblem, params: Tensor) -> None:
        return None

    def step(
        self, problem: ClosedFormProblem, params: Tensor, state: None
    ) -> tuple[Tensor, None, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        # The solution does not depend on `init`; the zero term keeps it in the graph, so that its
        # gradient is zero rather than missing.
        solution = self.solution(problem, params) + 0.0 * params
        return solution, None, report(problem, loss, gradient, torch.ones_like(loss))

    def check(self, problem: Solvable) -> None:
        super().check(problem)
        if self.form == "dual" and not isinstance(problem, RidgeProblem):
            kinds = public_names(RidgeProblem)  # type: ignore[type-abstract]
            raise TypeError(
                f"form: 'dual' solves {kinds}, not {type(problem).__name__}, "
                "which has no samples; 'primal' does"
            )

    def solution(self, problem: ClosedFormProblem, like: Tensor) -> Tensor:
        """The minimum of `problem`, whose parameters are shaped like `like`."""
        ridge = problem.regularization.reshape(*problem.regularization.shape, 1, 1, 1)
        if isinstance(problem, RidgeProblem) and self._is_dual(problem, like):
            matrix, targets = problem.design(like)
            solution = matrix.mT @ _solve(matrix @ matrix.mT, ridge, targets)
        else:
            gram, right = problem.normal_equations(like)
            solution = _solve(gram, ridge, right)
        return solution.reshape(like.shape)

    def _is_dual(self, problem: RidgeProblem, like: Tensor) -> bool:
        """Whether to solve for one number per sample."""
        batch_dims = len(problem.batch_shape)
        outputs, *filters = like.shape[batch_dims:]
        rows = problem.targets.shape[batch_dims:].numel() // outputs
        return self.form == "dual" or (self.form == "auto" and rows < math.prod(filters))


def _solve(gram: Tensor, ridge: Tensor, right: Tensor) -> Tensor:
    """Solve (gram + ridge · 1) z = right; a system that is not positive definite gives NaN."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    matrix, columns = factorable(gram + ridge * eye), factorable(right)
    if matrix.shape[:-2] == right.shape[:-2]:
        return solve_positive(matrix, columns).to(right.dtype)
    # One factor serves all outputs that share their weights: solve them as columns.
    solution = solve_positive(matrix.squeeze(-3), columns.squeeze(-1).mT)
    return solution.mT.unsqueeze(-1).to(right.dtype)
