"""A line search that ends where the slope has flattened: the strong Wolfe conditions."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.base import Problem
from innerloop.problems.checks import check_whole
from innerloop.trees import Tree

_GRID = 32
"""Sizes are powers of 2^(1/32), so that they are constant nearly everywhere."""

_NEAR, _FAR = 0.1, 0.9
"""Where an interpolation may lie between the two ends of a bracket."""

_FARTHER = 4.0
"""Greatest factor from one size to the next while there is no bracket."""


class Found(NamedTuple):
    """Where a line search ended, per problem; without gradient."""

    size: Tensor
    """Multiple of the direction; zero where nothing lowers the loss enough."""
    loss: Tensor
    gradient: Tree


class _Ends(NamedTuple):
    """A bracket per problem: the better end, the other one, and what is known there."""

    low: Tensor
    loss: Tensor
    slope: Tensor
    high: Tensor  # infinite until there is a bracket
    high_loss: Tensor
    high_slope: Tensor


class StrongWolfe:
    """Finds a size at which the loss has fallen enough and the slope has flattened.

    The outer gradient treats the size as a constant. It is one of a grid of powers of 2^(1/32), so
    that this is exact nearly everywhere.

    Args:
        decrease: min decrease of the loss, as a fraction of the decrease that the slope predicts.
            Default 1e-4.
        curvature: max size of the slope at the end, as a fraction of the slope at the start,
            between `decrease` and 1. Default 0.9.
        trials: max number of sizes tried. Default 20.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithms 3.5 and 3.6.
    """

    def __init__(self, decrease: float = 1e-4, curvature: float = 0.9, trials: int = 20) -> None:
        if not 0 < decrease < curvature < 1:
            raise ValueError(
                f"decrease, curvature: {decrease}, {curvature}, should be between 0 and 1, the "
                "first below the second"
            )
        check_whole("trials", trials, 1)
        self.decrease, self.curvature, self.trials = decrease, curvature, trials

    @torch.no_grad()
    def __call__(
        self,
        problem: Problem,
        params: Tree,
        direction: Tree,
        loss: Tensor,
        gradient: Tree,
        initial: Tensor,
    ) -> Found:
        """Search along a direction.

        Args:
            problem: the problem.
            params: where the search starts.
            direction: along which the loss falls.
            loss, gradient: at `params`.
            initial: size to try first, one per problem.
        """
        params, direction = trees.detach(params), trees.detach(direction)
        loss, gradient = loss.detach(), trees.detach(gradient)
        slope = problem.dot(gradient, direction)
        # Near the minimum the decrease is lost in rounding.
        slack = 10 * torch.finfo(loss.dtype).eps * loss.abs()
        infinite = torch.full_like(loss, torch.inf)
        ends = _Ends(torch.zeros_like(loss), loss, slope, infinite, infinite, infinite)
        best = Found(torch.zeros_like(loss), loss, gradient)
        finest = _finest(params, direction, len(problem.batch_shape))
        size, done = on_grid(initial), ~(slope < 0)
        for _ in range(self.trials):
            if not transforming() and bool(done.all()):
                break
            reached, new = problem.value_and_gradient(trees.add_scaled(params, size, direction))
            reached, new = reached.detach(), trees.detach(new)
            steepness = problem.dot(new, direction)
            enough = reached <= loss + self.decrease * size * slope + slack
            better = enough & (reached <= ends.loss + slack) & steepness.isfinite()
            best = _chosen(better & ~done, Found(size, reached, new), best)
            done = done | (better & (steepness.abs() <= -self.curvature * slope))
            ends = _moved(ends, size, reached, steepness, better)
            width = _width(ends)
            following = _next(ends)
            tried = (following == ends.low) | (following == ends.high)
            done = done | tried | (width * ends.slope.abs() <= slack) | (width <= finest)
            size = torch.where(done, size, following)
        return best


def _moved(ends: _Ends, size: Tensor, loss: Tensor, slope: Tensor, better: Tensor) -> _Ends:
    """The bracket after a trial, which becomes its better or its other end.

    Where the slope at a new better end points away from the other end, the former better end
    becomes the other one: the loss has a minimum between both.
    """
    toward = torch.where(ends.high >= ends.low, slope, -slope)
    back = better & (toward >= 0)

    def other(trial: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return torch.where(better, torch.where(back, low, high), trial)

    return _Ends(
        torch.where(better, size, ends.low),
        torch.where(better, loss, ends.loss),
        torch.where(better, slope, ends.slope),
        other(size, ends.low, ends.high),
        other(loss, ends.loss, ends.high_loss),
        other(slope, ends.slope, ends.high_slope),
    )


def _width(ends: _Ends) -> Tensor:
    """How far from the better end the search can still go in one trial."""
    bracketed = ends.high.isfinite()
    return torch.where(bracketed, (ends.high - ends.low).abs(), (_FARTHER - 1) * ends.low)


def _finest(params: Tree, direction: Tree, batch_dims: int) -> Tensor:
    """The greatest size, per problem, that changes no parameter by more than its last digit."""
    point, vector = (trees.ravel(tree, batch_dims).abs() for tree in (params, direction))
    room = torch.where(vector > 0, point / vector, torch.inf)
    return torch.finfo(room.dtype).eps * room.amin(-1)


def _next(ends: _Ends) -> Tensor:
    """The size to try next: inside the bracket, or beyond its better end where there is none."""
    width = ends.high - ends.low
    inside = ends.low + width * _minimum(ends, width)
    return on_grid(torch.where(ends.high.isfinite(), inside, _FARTHER * ends.low))


def _minimum(ends: _Ends, width: Tensor) -> Tensor:
    """Place of the minimum of the cubic through both ends, from 0 at the better one to 1."""
    # Relative to the first, so that the squares of small ones are not lost.
    first = ends.slope * width
    unit = torch.where(first == 0, 1.0, first.abs())
    first, last = first / unit, ends.high_slope * width / unit
    d = first + last - 3 * (ends.high_loss - ends.loss) / unit
    root = (d.square() - first * last).clamp(min=0).sqrt()
    place = 1 - (last + root - d) / (last - first + 2 * root)
    known = ends.high_loss.isfinite() & ends.high_slope.isfinite() & place.isfinite()
    return torch.where(known, place.clamp(_NEAR, _FAR), 0.25)


def on_grid(size: Tensor, parts: int = _GRID) -> Tensor:
    """The nearest power of 2^(1/parts)."""
    return torch.exp2((parts * size.log2()).round() / parts)


def _chosen(which: Tensor, new: Found, old: Found) -> Found:
    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(trees.per_problem(which, b).bool(), a, b)

    return Found(
        choose(new.size, old.size),
        choose(new.loss, old.loss),
        trees.tree_map(choose, new.gradient, old.gradient),
    )
