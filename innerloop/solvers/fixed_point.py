"""Fixed-point iteration, plain, damped and with Anderson's acceleration."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.maps.inverse import factorable
from innerloop.problems.checks import check_whole
from innerloop.problems.root import FixedPoint
from innerloop.solvers.base import Solver, StepStats, report
from innerloop.solvers.step_sizes import (
    Rate,
    StepSize,
    apply_rate,
    checked_rate,
    effective_size,
    rate_at,
)
from innerloop.trees import Tree


class _State(NamedTuple):
    step: int
    history: tuple[tuple[Tensor, Tensor], ...] = ()
    """The last points and the changes that f made to them, each of shape (*batch, n)."""


class FixedPointIteration(Solver):
    """The iteration p ← p + rate · (f(p) − p).

    Args:
        rate: 1 is the plain iteration, less is a damped one: a number, a tensor, a tree of these
            like the parameters, or a `LearningRates`. Default 1.

    Source:
        Banach's iteration; damped: Krasnoselskii, Two Remarks on the Method of Successive
        Approximations, 1955.
    """

    solves = FixedPoint
    history = 0
    """Number of earlier points that a step takes into account."""

    def __init__(self, rate: Rate = 1.0) -> None:
        if isinstance(rate, StepSize):
            raise TypeError(
                f"rate: {type(rate).__name__} searches along a direction of descent, which "
                f"{type(self).__name__} has not; a number works, and NewtonRaphson(Armijo())"
            )
        self.rate = checked_rate(rate)

    def init(self, problem: FixedPoint, params: Tree) -> _State:
        return _State(0)

    def step(
        self, problem: FixedPoint, params: Tree, state: _State
    ) -> tuple[Tree, _State, StepStats]:
        loss, residual = problem.value_and_condition(params)
        change = trees.negative(residual)
        point, direction, history = self.combined(problem, params, change, state.history)
        rate = rate_at(self.rate, state.step)
        moved = apply_rate(rate, problem, point, direction)
        size = effective_size(rate, problem, point, moved, direction)
        return moved, _State(state.step + 1, history), report(problem, loss, residual, size)

    def combined(
        self, problem: FixedPoint, params: Tree, change: Tree, history: Any
    ) -> tuple[Tree, Tree, Any]:
        """The point to go on from, the change that f makes there, and the next history."""
        return params, change, history

    def carried(self, state: _State) -> _State:
        return state

    def check_carried(self, problem: FixedPoint, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        if not isinstance(carried, _State) or len(carried.history) > self.history:
            raise ValueError(
                f"state: does not fit this {type(self).__name__}, should come from one with the "
                "same history"
            )


class Anderson(FixedPointIteration):
    """Anderson's acceleration: from the affine combination of the last points that f changes least.

    The change that f makes to a combination of points is taken as the combination of its changes.
    The next point lies `rate` times that change away. On linear problems these are the points of
    GMRES, each mapped by f once more.

    Args:
        history: number of earlier points that are combined with the present one; 0 is
            `FixedPointIteration`. Default 5.
        rate: multiple of the change, see `FixedPointIteration`. Default 1.

    Source:
        Anderson, Iterative Procedures for Nonlinear Integral Equations, 1965; Walker and Ni,
        Anderson Acceleration for Fixed-Point Iterations, 2011, eq. 2.2 and 3.1.
    """

    def __init__(self, history: int = 5, rate: Rate = 1.0) -> None:
        super().__init__(rate)
        check_whole("history", history, 0)
        self.history = history

    def combined(
        self,
        problem: FixedPoint,
        params: Tree,
        change: Tree,
        history: tuple[tuple[Tensor, Tensor], ...],
    ) -> tuple[Tree, Tree, Any]:
        batch_dims = len(problem.batch_shape)
        point, residual = (trees.ravel(tree, batch_dims) for tree in (params, change))
        places = (*history, (point, residual))
        kept = places[-self.history :] if self.history else ()
        if not history:
            return params, change, kept
        points, residuals = (torch.stack(column, -1) for column in zip(*places, strict=True))
        moves, bends = points.diff(dim=-1), residuals.diff(dim=-1)
        shares = _least_squares(bends, residual)
        point, residual = (
            last - (columns @ shares).squeeze(-1)
            for last, columns in ((point, moves), (residual, bends))
        )
        return (
            trees.unravel(point, params, batch_dims),
            trees.unravel(residual, params, batch_dims),
            kept,
        )


def _least_squares(columns: Tensor, right: Tensor) -> Tensor:
    """The x, shape (*batch, m, 1), that makes |columns @ x − right| least, damped by rounding.

    Columns become parallel, or vanish, where the iteration converges.
    """
    eps = torch.finfo(columns.dtype).eps
    square = columns.square().sum(-2, keepdim=True)
    empty = square == 0
    scale = torch.where(empty, 1.0, square).sqrt()
    count = columns.shape[-1]
    damping = eps**0.5 * torch.eye(count, dtype=columns.dtype, device=columns.device)
    rows = torch.cat([columns / scale, damping.expand(*columns.shape[:-2], -1, -1)], -2)
    padded = torch.cat([right, right.new_zeros(*right.shape[:-1], count)], -1)
    q, r = torch.linalg.qr(factorable(rows))
    projected = q.mT @ factorable(padded).unsqueeze(-1)
    found: Tensor = torch.linalg.solve_triangular(r, projected, upper=True).to(columns)
    return found / scale.mT
