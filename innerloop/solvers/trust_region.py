"""Trust regions: steps no longer than the quadratic model of the loss is good for."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.problems.base import CurvedProblem, Problem
from innerloop.solvers.acceptance import gain, negligible, take
from innerloop.solvers.base import Solver, StepStats, check_instance, report, safe_quotient
from innerloop.solvers.probing import on_vectors
from innerloop.solvers.searching import inner, magnitude
from innerloop.solvers.subproblems import Steihaug, Subproblem
from innerloop.solvers.wolfe import on_grid
from innerloop.trees import Tree


class _Region(NamedTuple):
    """The state of a trust region; each entry has shape (*batch)."""

    radius: Tensor
    first: Tensor
    """Norm of the gradient at the first step; negative before it."""


class TrustRegion(Solver):
    """Newton's method within a radius that follows how well the quadratic model predicts the loss.

    A step that fails to decrease the loss, or reaches NaN or infinity, is not taken. The decrease
    of the loss, relative to the decrease that the model predicts, decides how the radius changes.
    The radius is one of a grid of numbers, so that it is constant nearly everywhere, and the outer
    gradient of a step is exact although no gradient flows through the choice of the radius.

    Args:
        subproblem: how the model is minimised within the radius. Default `Steihaug()`, matrix-free
            and for any curvature; `Dogleg()` for few parameters.
        radius: first radius, above 0, in the units of the parameters. Default 1.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithm 4.1.
    """

    def __init__(self, subproblem: Subproblem | None = None, *, radius: float = 1.0) -> None:
        subproblem = Steihaug() if subproblem is None else subproblem
        check_instance("subproblem", subproblem, Subproblem, "Steihaug()")
        if isinstance(radius, bool) or not isinstance(radius, int | float):
            raise TypeError(f"radius: {radius!r}, should be a number above 0")
        if not 0 < radius < float("inf"):
            raise ValueError(f"radius: {radius}, should be above 0 and finite")
        self.subproblem, self.radius = subproblem, radius

    def operator(self, problem: Any, params: Tree) -> Operator:
        """The curvature at `params`."""
        return problem.hessian_operator(params)  # type: ignore[no-any-return]

    def init(self, problem: Problem, params: Tree) -> _Region:
        leaf = trees.leaves(params)[0]
        zero = torch.zeros(problem.batch_shape, dtype=leaf.dtype, device=leaf.device)
        return _Region(zero + self.radius, zero - 1)

    def carried(self, state: _Region) -> _Region:
        return state

    def check_carried(self, problem: Problem, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        if not isinstance(carried, _Region) or carried.radius.shape != problem.batch_shape:
            raise ValueError(
                f"state: does not fit this {type(self).__name__}, should come from one on a "
                f"problem of the batch shape {tuple(problem.batch_shape)}"
            )

    def step(
        self, problem: Problem, params: Tree, state: _Region
    ) -> tuple[Tree, _Region, StepStats]:
        batch_dims = len(problem.batch_shape)
        loss, gradient = problem.value_and_gradient(params)
        slope = trees.ravel(gradient, batch_dims)
        norm = slope.detach().norm(dim=-1)
        first = torch.where(state.first < 0, norm, state.first)
        progress = safe_quotient(norm, first).unsqueeze(-1)
        product = on_vectors(self.operator(problem, params), params, batch_dims)
        # A step is proportional to gradient and radius; squares of small ones would be lost.
        unit = magnitude(slope)
        radius = (state.radius.unsqueeze(-1) / unit).clamp(max=_limits(slope)[1])
        found = self.subproblem(product, slope / unit, radius, progress)
        vector, response = unit * found.vector, unit * found.response
        with torch.no_grad():
            promised = -inner(vector, slope + 0.5 * response).squeeze(-1)
        # Curvature that is NaN is reported by the parameters.
        vector = vector.masked_fill(promised.isnan().unsqueeze(-1), torch.nan)
        change = trees.unravel(vector, params, batch_dims)
        with torch.no_grad():
            reached = problem.loss(trees.add(params, change))
            length = trees.ravel(params, batch_dims).norm(dim=-1)
            size = vector.norm(dim=-1)
            still = negligible(size, length)
            ratio = torch.where(still & reached.isfinite(), 1.0, gain(loss, reached, promised))
            smaller = on_grid(0.25 * size)
            wider = (ratio > 0.75) & found.limited.squeeze(-1)
            greater = torch.where(wider, 2 * state.radius, state.radius)
            region = torch.where((ratio < 0.25) & ~still, smaller, greater)
            region = region.clamp(*_limits(region))
        moved, taken = take(params, change, (ratio >= 1e-4) | promised.isnan(), loss)
        return moved, _Region(region, first), report(problem, loss, gradient, taken)


def _limits(like: Tensor) -> tuple[float, float]:
    """Min and max of radii whose squares are numbers."""
    limits = torch.finfo(like.dtype)
    return 2 * limits.tiny**0.5, 0.5 * limits.max**0.5


class GaussNewtonTrustRegion(TrustRegion):
    """The Gauss-Newton method within a trust region: `TrustRegion` with J'J for the Hessian.

    With `Steihaug()` it is matrix-free. Where residuals stay large at the solution, it converges
    too, but only linearly; `TrustRegion` is then faster.

    Args:
        subproblem, radius: see `TrustRegion`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, section 10.3.
    """

    solves = CurvedProblem

    def operator(self, problem: CurvedProblem, params: Tree) -> Operator:
        return problem.gauss_newton_operator(params)
