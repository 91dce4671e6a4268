"""The exact solution of linear least squares in closed form."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.problems import ConvLeastSquares, Problem
from innerloop.solvers.base import Solver, StepStats


class _State(NamedTuple):
    prediction: Tensor


class Ridge(Solver):
    """Direct solver: one Cholesky factorisation of the normal equations, primal or dual.

    With X the patches of all frames (N·H·W rows, C·K² columns), the filter is
    (Xᵀ W² X + λ)⁻¹ Xᵀ W² E in primal form, and Xᵀ W (W X Xᵀ W + λ)⁻¹ W E in dual form, whose system
    has one row a pixel: the smaller one for one or few frames of many channels.

    Args:
        form: which of the two systems to factorise; "auto" (the default) takes the smaller one. The
            dual form needs a positive regularization.

    Source:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019, eqs. 4
        and 6 (Woodbury).
    """

    direct = True

    def __init__(self, form: Literal["auto", "primal", "dual"] = "auto") -> None:
        if form not in ("auto", "primal", "dual"):
            raise ValueError(f"form: {form!r}, should be 'auto', 'primal' or 'dual'")
        self.form = form

    def init(self, problem: Problem, params: Tensor) -> _State:
        if not isinstance(problem, ConvLeastSquares):
            raise TypeError(
                f"problem: Ridge has no closed form for {type(problem).__name__}; it solves "
                "ConvLeastSquares"
            )
        return _State(problem.predict(params))

    def step(
        self, problem: Problem, params: Tensor, state: _State
    ) -> tuple[Tensor, _State, StepStats]:
        assert isinstance(problem, ConvLeastSquares)
        gradient = problem.gradient(params, state.prediction)
        loss = problem.loss(params, state.prediction).detach()
        norm = problem.dot(gradient, gradient).detach().sqrt()
        solution = self._solve(problem, params.shape[-1])
        stats = StepStats(loss, norm, torch.ones_like(loss))
        # `init` is where a solution may start from, not what it depends on; the zero term keeps it
        # in the graph, so that its gradient is zero rather than missing.
        solution = solution + 0.0 * params
        return solution, _State(problem.predict(solution)), stats

    def _solve(self, problem: ConvLeastSquares, kernel: int) -> Tensor:
        *batch, frames, channels, height, width = problem.features.shape
        outputs, pixels = problem.targets.shape[-3], frames * height * width
        # Patches as rows of all frames: (*batch, 1, N·H·W, C·K²); the 1 stands for the D outputs.
        patches = F.unfold(
            problem.features.reshape(-1, channels, height, width), kernel, padding=kernel // 2
        )
        patches = patches.reshape(*batch, frames, -1, height * width).transpose(-1, -2)
        patches = patches.reshape(*batch, 1, pixels, -1)
        targets = problem.targets.movedim(-3, -4).reshape(*batch, outputs, pixels, 1)
        if problem.weights is not None:
            weights = problem.weights.expand(
                *batch, frames, problem.weights.shape[-3], height, width
            )
            weights = weights.movedim(-3, -4).reshape(*batch, -1, pixels, 1)
            patches, targets = weights * patches, weights * targets
        ridge = problem.regularization.reshape(*problem.regularization.shape, 1, 1, 1)
        dual = self.form == "dual" or (self.form == "auto" and pixels < patches.shape[-1])
        if dual:
            gram = patches @ patches.mT
            solution = patches.mT @ _solve_positive(gram, ridge, targets)
        else:
            gram = patches.mT @ patches
            solution = _solve_positive(gram, ridge, patches.mT @ targets)
        return solution.reshape(*batch, outputs, channels, kernel, kernel)


def _solve_positive(gram: Tensor, ridge: Tensor, right: Tensor) -> Tensor:
    """Solve (gram + ridge · 1) z = right; a system that is not positive definite gives NaN."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, info = torch.linalg.cholesky_ex(gram + ridge * eye)
    if factor.shape[:-2] != right.shape[:-2]:
        # One factor serves all outputs that share their weights: solve them as columns.
        right = right.squeeze(-1).mT
        solution = torch.cholesky_solve(right, factor.squeeze(-3)).mT.unsqueeze(-1)
        info = info.squeeze(-1)
        bad = (info != 0)[..., None, None, None]
    else:
        solution = torch.cholesky_solve(right, factor)
        bad = (info != 0)[..., None, None]
    return solution.masked_fill(bad, torch.nan)
