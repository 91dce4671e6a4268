"""The inner problem of a trust region: the minimum of a quadratic model within a radius."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop._autodiff import Operator, transforming
from innerloop.maps.inverse import factorable, solve_positive
from innerloop.problems.checks import check_whole
from innerloop.solvers.base import check_not_negative, quotient
from innerloop.solvers.linear import solve_linear
from innerloop.solvers.minres import MINRES
from innerloop.solvers.probing import assembled
from innerloop.solvers.searching import inner
from innerloop.solvers.solved import solved


class ModelStep(NamedTuple):
    """An approximate minimum of the model g'p + ½ p'Hp with |p| ≤ Δ."""

    vector: Tensor
    """p, shape (*batch, n)."""
    response: Tensor
    """H p, shape (*batch, n)."""
    limited: Tensor
    """Whether the radius holds the step back; boolean, shape (*batch, 1)."""


class Subproblem(ABC):
    """A way to minimise the model of a trust region."""

    @abstractmethod
    def __call__(
        self, product: Operator, gradient: Tensor, radius: Tensor, progress: Tensor
    ) -> ModelStep:
        """Minimise the model.

        Args:
            product: the map from a vector to H times it.
            gradient: g, shape (*batch, n); its greatest entry is 1 in size, or 0.
            radius: Δ, above 0, shape (*batch, 1).
            progress: norm of g relative to that at the first step of the solve, shape (*batch, 1).
        """


class Steihaug(Subproblem):
    """Conjugate gradients that end at the radius, or along a direction of negative curvature.

    Only products with H are computed, and H may be indefinite or singular. Where the system
    H p = −g is solved, to half of the digits, the derivative is that of its solution; elsewhere it
    is that of the steps.

    Args:
        steps: max number of products per step; there are never more than there are parameters.
            Default 50.
        tolerance: max residual of the linear system, as a fraction of the gradient. Default: a
            forcing sequence, min(½, √(|g| / |g at the first step|)): rough far from the minimum,
            and so exact near it that the convergence is superlinear.

    Source:
        Steihaug, The Conjugate Gradient Method and Trust Regions in Large Scale Optimization, SIAM
        Journal on Numerical Analysis, 1983; Nocedal and Wright, Numerical Optimization, 2006,
        algorithm 7.2 and eq. 7.3.
    """

    def __init__(self, steps: int = 50, *, tolerance: float | None = None) -> None:
        check_whole("steps", steps, 1)
        if tolerance is not None:
            check_not_negative(tolerance=tolerance)
        self.steps, self.tolerance = steps, tolerance

    def __call__(
        self, product: Operator, gradient: Tensor, radius: Tensor, progress: Tensor
    ) -> ModelStep:
        step = response = torch.zeros_like(gradient)
        residual, direction = gradient, -gradient
        square = inner(gradient, gradient)
        forcing = progress.sqrt().clamp(max=0.5) if self.tolerance is None else self.tolerance
        # Below machine precision there is only rounding.
        least = torch.finfo(gradient.dtype).eps
        enough = torch.clamp(torch.as_tensor(forcing), min=least) ** 2 * square.detach()
        done = square.detach() <= 0
        limited = torch.zeros_like(done)
        steps = min(self.steps, gradient.shape[-1])
        for _ in range(steps):
            if not transforming() and bool(done.all()):
                break
            bent = product(direction)
            curvature = inner(direction, bent)
            with torch.no_grad():
                reach = (step + square / curvature * direction).norm(dim=-1, keepdim=True)
                inside = (curvature > 0) & (reach < radius)
                # NaN goes on into the step, to be reported.
                stopped = ~done & ~inside & ~curvature.isnan()
            size = quotient(square, curvature, done | stopped)
            size = torch.where(stopped, _to_boundary(step, direction, radius, stopped), size)
            step, response = step + size * direction, response + size * bent
            residual = residual + size * bent
            before, square = square, inner(residual, residual)
            done, limited = done | stopped | (square.detach() <= enough), limited | stopped
            turned = quotient(square, before, done) * direction - residual
            direction = torch.where(done, 0.0, turned)

        def inverse(right: Tensor, _: bool) -> Tensor:
            solution: Tensor = solve_linear(
                MINRES(), product, right, right.shape[:-1], steps, least
            )
            return solution

        which = ~limited & (square.detach() <= least * inner(gradient, gradient).detach())
        step = solved(step, product, -gradient, which.squeeze(-1), inverse)
        return ModelStep(step, response, limited)


class Dogleg(Subproblem):
    """A path of two straight lines: to the minimum along the gradient, then to Newton's.

    For few parameters: each step assembles H, of n parameters by n products, and factorises it. It
    is meant for positive definite H; elsewhere the step goes along the gradient alone.

    Source:
        Powell, A Hybrid Method for Nonlinear Equations, 1970; Nocedal and Wright, Numerical
        Optimization, 2006, eq. 4.16.
    """

    def __call__(
        self, product: Operator, gradient: Tensor, radius: Tensor, progress: Tensor
    ) -> ModelStep:
        matrix = assembled(product, gradient)
        square = inner(gradient, gradient)
        curvature = inner(gradient, _times(matrix, gradient))
        newton, positive = _newton(matrix, gradient)
        with torch.no_grad():
            whole = positive & (newton.norm(dim=-1, keepdim=True) <= radius)
            short = (curvature > 0) & (square**1.5 < radius * curvature)
            bent = positive & short & ~whole
        lowest = -quotient(square, curvature, ~short) * gradient
        inward = short | (square <= 0)
        edge = -quotient(radius, square.masked_fill(inward, 1.0).sqrt(), inward) * gradient
        along = newton - lowest
        path = lowest + _to_boundary(lowest, along, radius, bent) * along
        step = torch.where(short, torch.where(bent, path, lowest), edge)
        step = torch.where(whole, newton, step)
        return ModelStep(step, _times(matrix, step), ~whole & (bent | ~short))


def _newton(matrix: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the inverse times the gradient, and whether the matrix is positive definite.

    Where it is not, the vector means nothing.
    """
    matrix = factorable(0.5 * (matrix + matrix.mT))
    info = torch.linalg.cholesky_ex(matrix.detach())[1]
    positive = ((info == 0) & matrix.detach().isfinite().all(-1).all(-1)).unsqueeze(-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    usable = torch.where(positive.unsqueeze(-1), matrix, eye)
    right = gradient.to(usable).unsqueeze(-1)
    return -solve_positive(usable, right).squeeze(-1).to(gradient), positive


def _to_boundary(start: Tensor, direction: Tensor, radius: Tensor, wanted: Tensor) -> Tensor:
    """How far to go along a direction to the radius, where `wanted`; it points away from zero."""
    length = torch.where(wanted, direction, 1.0).norm(dim=-1, keepdim=True)
    ahead = inner(start, direction) / length
    left = torch.where(wanted, radius**2 - inner(start, start), 1.0)
    root = (torch.where(wanted, ahead, 0.0) ** 2 + left).sqrt()
    return quotient(left, (ahead + root) * length, ~wanted)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
