"""The Levenberg-Marquardt method for nonlinear least squares."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.maps.inverse import factorable
from innerloop.problems.base import CurvedProblem
from innerloop.problems.least_squares import LeastSquares
from innerloop.solvers.acceptance import gain, negligible, take
from innerloop.solvers.base import Solver, StepStats, check_not_negative, report, safe_quotient
from innerloop.solvers.conjugate import ConjugateGradient
from innerloop.solvers.linear import check_linear_solver, solve_linear
from innerloop.solvers.newton import damped
from innerloop.trees import Tree

DENSE = 64
"""Up to this many parameters per problem the Jacobian is dense unless `linear_solver` is given."""


class _Region(NamedTuple):
    """The state of dense steps."""

    scale: Tensor
    """Max norm that each column of J had so far, shape (*batch, N)."""
    radius: Tensor
    """Radius of the trust region in parameters times `scale`, shape (*batch); infinite at first."""


class _Damping(NamedTuple):
    """The state of matrix-free steps; each entry has shape (*batch)."""

    scale: Tensor
    """Max curvature along the gradient so far, rounded up to a power of 2."""
    factor: Tensor
    """The damping, as a multiple of that curvature."""


class LevenbergMarquardt(Solver):
    """Gauss-Newton steps damped until they decrease the loss.

    The damping is μ D², so that a step solves (J'J + μ D²) p = −J'r. A step that fails to decrease
    the loss, or reaches NaN or infinity, is not taken. The decrease of the loss, relative to the
    decrease that the model predicts, decides how the damping changes.

    Up to 64 parameters per problem, a `LeastSquares` is solved as MINPACK's lmder does: D holds the
    max norms that the columns of J had so far, so the units of the parameters do not matter; μ
    follows from a trust region; and the step comes from a QR factorisation of [J; √μ D], which
    avoids the loss of digits in J'J. A step costs a forward-mode Jacobian, one more residual, and
    memory for J. It takes μ from a grid of powers of 2^¼, so μ is constant nearly everywhere, and
    the outer gradient of a step is exact although no gradient flows through the choice of μ.

    Otherwise, and with a `linear_solver`, only products with J'J are computed. Its diagonal is then
    unknown (products give only random estimates of it), and D² is one number: the max curvature of
    J'J so far along a gradient. The steps are then independent of the loss's scale, but not of the
    parameters' units.

    Args:
        damping: μ of the first step without a matrix; a float or a tensor of shape () or
            `batch_shape`. Default 0.001.
        radius: radius of the first trust region, above 0, as a multiple of |D p| at the first
            parameters p, or the radius itself if that is zero. Default 100.
        linear_solver: solver of the damped system, matrix-free. Default: dense steps where they are
            possible, `ConjugateGradient()` elsewhere.
        linear_steps, linear_tolerance: see `Newton`; of no effect on dense steps.

    Source:
        Marquardt, An Algorithm for Least-Squares Estimation of Nonlinear Parameters, 1963; Moré,
        The Levenberg-Marquardt Algorithm: Implementation and Theory, 1978.
    """

    solves = CurvedProblem

    def __init__(
        self,
        damping: float | Tensor = 1e-3,
        *,
        radius: float = 100.0,
        linear_solver: Solver | None = None,
        linear_steps: int = 20,
        linear_tolerance: float = 1e-8,
    ) -> None:
        check_not_negative(damping=damping, linear_tolerance=linear_tolerance)
        if not radius > 0:
            raise ValueError(f"radius: {radius}, should be above 0")
        if linear_steps < 1:
            raise ValueError(f"linear_steps: {linear_steps}, should be at least 1")
        if linear_solver is not None:
            check_linear_solver(linear_solver)
        self.damping = damping
        self.radius = radius
        self.linear_solver = linear_solver
        self.linear_steps = linear_steps
        self.linear_tolerance = linear_tolerance

    def init(self, problem: CurvedProblem, params: Tree) -> _Region | _Damping:
        leaf = trees.leaves(params)[0]
        zero = torch.zeros(problem.batch_shape, dtype=leaf.dtype, device=leaf.device)
        vector = trees.ravel(params, len(problem.batch_shape))
        if self.linear_solver or not isinstance(problem, LeastSquares) or vector.shape[-1] > DENSE:
            factor = torch.as_tensor(self.damping, dtype=leaf.dtype, device=leaf.device)
            return _Damping(zero, factor.expand(problem.batch_shape))
        return _Region(torch.zeros_like(vector), zero + torch.inf)

    def step(
        self, problem: CurvedProblem, params: Tree, state: _Region | _Damping
    ) -> tuple[Tree, _Region | _Damping, StepStats]:
        if isinstance(state, _Region):
            return self._dense_step(problem, params, state)  # type: ignore[arg-type]
        return self._free_step(problem, params, state)

    def carried(self, state: _Region | _Damping) -> _Region | _Damping:
        return state

    def check_carried(self, problem: CurvedProblem, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        if type(carried) is not type(self.init(problem, params)):
            raise ValueError(
                "state: from LevenbergMarquardt with another linear_solver, should be from one "
                "with the same"
            )

    def _dense_step(
        self, problem: LeastSquares, params: Tree, state: _Region
    ) -> tuple[Tree, _Region, StepStats]:
        batch_dims = len(problem.batch_shape)
        point = trees.ravel(params, batch_dims)
        residual, jacobian = problem.linearize(params)
        decay = problem.regularization.to(point).unsqueeze(-1)
        gradient = _times(jacobian.mT, residual) + decay * point
        loss = 0.5 * (residual.square().sum(-1) + (decay * point.square()).sum(-1))

        scale = torch.maximum(state.scale, _root(jacobian.square().sum(-2) + decay))
        unit = torch.where(scale > 0, scale, 1.0)
        # In parameters times their scale, J is J / D, and the damping μ.
        jacobian, slope, weight = jacobian / unit.unsqueeze(-2), gradient / unit, decay / unit**2
        with torch.no_grad():
            length = (unit * point).norm(dim=-1)
            first = self.radius * torch.where(length > 0, length, 1.0)
            started = state.radius.isfinite()
            radius = torch.where(started, state.radius, first)
            mu, whole = _damping(jacobian, slope, weight, radius)

        # Least squares with the matrix [J; √(λ + μ)], the lower right-hand side chosen so that no
        # square root of λ alone occurs, whose derivative at zero is infinite.
        diagonal = (weight + mu.unsqueeze(-1)).sqrt()
        q, r = torch.linalg.qr(factorable(torch.cat([jacobian, diagonal.diag_embed()], -2)))
        right = factorable(torch.cat([residual, weight * unit * point / diagonal], -1))
        solved = torch.linalg.solve_triangular(r, _times(q.mT, right).unsqueeze(-1), upper=True)
        scaled = -solved.squeeze(-1).to(point)
        change = trees.unravel(scaled / unit, params, batch_dims)

        with torch.no_grad():
            reached = problem.loss(trees.add(params, change))
            square = scaled.square().sum(-1)
            bend = _times(jacobian, scaled).square().sum(-1) + (weight * scaled**2).sum(-1)
            promised = 0.5 * bend + mu * square
            norm = square.sqrt()
            still = negligible(norm, length)
            ratio = torch.where(still & reached.isfinite(), 1.0, gain(loss, reached, promised))
            # Where the loss grew: the minimum of the parabola through both losses, along the step.
            shrink = 0.5 * (bend + mu * square) / (bend + mu * square + reached - loss)
            shrink = torch.where(reached <= loss, 0.5, shrink.nan_to_num(0.1).clamp(0.1, 0.5))
            radius = torch.where(started, radius, torch.minimum(radius, norm))
            smaller = shrink * torch.minimum(radius, 10 * norm)
            greater = torch.where((ratio >= 0.75) | whole, 2 * norm, radius)
            # At a solution the steps are rounding, which says nothing about the region.
            radius = torch.where(still, radius, torch.where(ratio > 0.25, greater, smaller))
        moved, taken = take(params, change, ratio >= 1e-4, loss)
        stats = report(problem, loss, trees.unravel(gradient, params, batch_dims), taken)
        return moved, _Region(scale, radius), stats

    def _free_step(
        self, problem: CurvedProblem, params: Tree, state: _Damping
    ) -> tuple[Tree, _Damping, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        with torch.no_grad():
            square = problem.dot(gradient, gradient)
            curvature = problem.curvature(gradient, problem.respond(params, gradient), square)
            # A power of 2, so that it is constant nearly everywhere, as the damping is.
            present = torch.exp2(torch.log2(safe_quotient(curvature, square)).ceil())
            scale = torch.maximum(state.scale, present)
        damping = state.factor * scale
        change = solve_linear(
            self.linear_solver or ConjugateGradient(),
            damped(problem.gauss_newton_operator(params), damping),
            trees.negative(gradient),
            problem.batch_shape,
            self.linear_steps,
            self.linear_tolerance,
        )
        with torch.no_grad():
            reached = problem.loss(trees.add(params, change))
            norm = problem.dot(change, change)
            promised = 0.5 * (damping * norm - problem.dot(change, gradient))
            ratio = gain(loss, reached, promised)
            growth = torch.where(ratio < 0.25, 4.0, torch.where(ratio > 0.75, 0.1, 1.0))
            precision = torch.finfo(norm.dtype).eps
            largest = min(1 / precision**2, torch.finfo(state.factor.dtype).max)
        moved, taken = take(params, change, ratio >= 1e-4, loss)
        factor = (state.factor * growth.to(state.factor)).clamp(precision**2, largest)
        return moved, _Damping(scale, factor), report(problem, loss, gradient, taken)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _root(square: Tensor) -> Tensor:
    """Square root with a zero derivative at zero."""
    empty = square <= 0
    return torch.where(empty, 0.0, torch.where(empty, 1.0, square).sqrt())


def _damping(
    jacobian: Tensor, slope: Tensor, weight: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """The min μ of a grid whose step stays within the radius, and whether it is the grid's min.

    The grid's min is next to 0, unless J is singular: then it is as small as it can be without
    losing the outer gradient in rounding.
    """
    matrix = torch.cat([jacobian, weight.sqrt().diag_embed()], -2)
    matrix = factorable(matrix.masked_fill(~matrix.isfinite(), 0.0))
    _, singular, axes = torch.linalg.svd(torch.linalg.qr(matrix, mode="r")[1])
    precision = torch.finfo(singular.dtype).eps
    largest = singular.amax(-1).clamp(min=precision)
    full_rank = singular.amin(-1) > matrix.shape[-2] * precision * largest
    slope = _times(axes, slope.to(axes))

    # μ = 2^(k/4). Bisection keeps a k that may be too small and one that is large enough.
    lowest = torch.where(full_rank, precision**1.5, precision**0.5) * largest**2
    lowest = (4 * torch.log2(lowest)).ceil()
    low = lowest - 1
    enough = 4 * torch.log2(slope.norm(dim=-1) / radius.to(slope))
    high = torch.maximum(enough.nan_to_num().ceil(), lowest)
    for _ in range(12):
        middle = torch.floor((low + high) / 2)
        mu = torch.exp2(middle / 4).unsqueeze(-1)
        short = (slope / (singular**2 + mu)).norm(dim=-1) <= radius
        short = short & (middle >= lowest)
        low, high = torch.where(short, low, middle), torch.where(short, middle, high)
    return torch.exp2(high / 4).to(jacobian), high <= lowest
