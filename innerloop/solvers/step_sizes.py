"""Step sizes, separate from directions: fixed or learned rates, and line searches."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.base import CurvedProblem, Problem, Solvable
from innerloop.solvers.acceptance import negligible
from innerloop.solvers.base import check_not_negative, safe_quotient
from innerloop.trees import Tree


class StepSize(ABC):
    """A rule that measures the problem along a direction to choose the length of the step."""

    solves: ClassVar[type[Problem]] = Problem  # type: ignore[type-abstract]
    """The kind of problem whose structure the rule needs."""

    @abstractmethod
    def __call__(
        self, problem: Any, params: Tree, direction: Tree, loss: Tensor, gradient: Tree
    ) -> Tensor:
        """Multiple of `direction` to take from `params`, one per problem."""


Rate: TypeAlias = float | Tensor | Tree | Callable[[int], Tree] | StepSize
"""A number; a tensor, one value for all or one per problem; a tree of numbers or of tensors that
broadcast over the parameters, structured like them; a function from the number of the step to one
of these, such as `LearningRates`; or a line search. Tensors receive the outer gradient."""


class ExactLineSearch(StepSize):
    """The minimum of the quadratic (Gauss-Newton) model along the direction."""

    solves = CurvedProblem

    def __call__(
        self, problem: CurvedProblem, params: Tree, direction: Tree, loss: Tensor, gradient: Tree
    ) -> Tensor:
        response = problem.respond(params, direction)
        slope = -problem.dot(gradient, direction)
        return safe_quotient(slope, problem.curvature(direction, response))


class Armijo(StepSize):
    """Backtracking: the first of a decreasing sequence of step sizes that lowers the loss enough.

    If none does, the problem takes no step. The outer gradient treats the chosen size as a
    constant.

    Args:
        initial: the first size tried. Default 1.
        shrink: factor from one size to the next, between 0 and 1. Default 0.5.
        decrease: min decrease of the loss, as a fraction of the decrease that the slope predicts.
            Default 1e-4.
        trials: number of sizes tried. Default 20.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithm 3.1.
    """

    def __init__(
        self,
        initial: float = 1.0,
        shrink: float = 0.5,
        decrease: float = 1e-4,
        trials: int = 20,
    ) -> None:
        check_not_negative(initial=initial, decrease=decrease, trials=trials)
        if not 0 < shrink < 1:
            raise ValueError(f"shrink: {shrink}, should lie between 0 and 1")
        self.initial = initial
        self.shrink = shrink
        self.decrease = decrease
        self.trials = trials

    def __call__(
        self, problem: Problem, params: Tree, direction: Tree, loss: Tensor, gradient: Tree
    ) -> Tensor:
        with torch.no_grad():
            loss, params, direction = loss.detach(), trees.detach(params), trees.detach(direction)
            slope = problem.dot(trees.detach(gradient), direction)
            chosen = torch.zeros_like(loss)
            # Near the minimum the decrease is lost in rounding; full steps are right there, as they
            # are where they change only the last digits: a loss that ends at zero has no scale.
            slack = 10 * torch.finfo(loss.dtype).eps * loss.abs()
            length, scale = (problem.dot(tree, tree).sqrt() for tree in (direction, params))
            rounding = negligible(self.initial * length, scale)
            for trial in range(self.trials):
                if not transforming() and bool((chosen > 0).all()):
                    break
                size = torch.full_like(loss, self.initial * self.shrink**trial)
                reached = problem.loss(trees.add_scaled(params, size, direction))
                enough = reached <= loss + self.decrease * size * slope + slack
                enough = enough | (rounding & reached.isfinite())
                good = enough & (chosen == 0)
                chosen = torch.where(good, size, chosen)
        return chosen


def current_rate(
    rate: Rate,
    step: int,
    problem: Problem,
    params: Tree,
    direction: Tree,
    loss: Tensor,
    gradient: Tree,
) -> Tree:
    """The rate of this step as a number, a tensor or a tree of tensors."""
    if isinstance(rate, StepSize):
        return rate(problem, params, direction, loss, gradient)
    return rate_at(rate, step)


def rate_at(rate: Rate, step: int) -> Tree:
    """The rate of a step, if it is no line search."""
    return checked_rate(rate(step)) if callable(rate) else rate  # type: ignore[call-arg]


def checked_rate(rate: Rate) -> Rate:
    """The rate; the numbers in a tree of rates become tensors.

    Raises:
        TypeError, ValueError: an entry is no number or tensor, or is negative or NaN.
    """
    if isinstance(rate, Tensor | StepSize) or (callable(rate) and not isinstance(rate, type)):
        return rate
    check_not_negative(rate=rate)
    if not isinstance(rate, (dict, list, tuple)):
        return rate if isinstance(rate, int | float) else float(rate)  # type: ignore[arg-type]
    return trees.tree_map(_as_tensor, rate)


def _as_tensor(rate: Any) -> Tensor:
    return rate if isinstance(rate, Tensor) else torch.tensor(rate, dtype=torch.float64)


def apply_rate(rate: Tree, problem: Solvable, params: Tree, direction: Tree) -> Tree:
    """`params + rate * direction`, for each form of a rate without a rule."""
    if isinstance(rate, int | float):
        for leaf in trees.leaves(params):
            if rate > torch.finfo(leaf.dtype).max:
                raise ValueError(f"rate: {rate}, should be a number that {leaf.dtype} can hold")
        return trees.tree_map(partial(torch.add, alpha=rate), params, direction)
    if isinstance(rate, Tensor) and rate.shape in (torch.Size(), problem.batch_shape):
        return trees.add_scaled(params, rate, direction)
    if isinstance(rate, Tensor) and not isinstance(params, Tensor):
        raise ValueError(
            f"rate: shape {tuple(rate.shape)}, should be () or the batch shape "
            f"{tuple(problem.batch_shape)}, or one tensor for each of the parameters"
        )
    leaves, spec = trees.flatten(params)
    rates = trees.leaves_like("rate", rate, params)
    moved = [
        p + r.to(p.dtype) * d
        for p, r, d in zip(leaves, rates, trees.leaves(direction), strict=True)
    ]
    return trees.unflatten(moved, spec)


def effective_size(
    rate: Tree, problem: Solvable, before: Tree, after: Tree, direction: Tree
) -> Any:
    """One multiple of the direction per problem, for the statistics: norms where rates differ."""
    if isinstance(rate, int | float):
        return trees.leaves(direction)[0].new_full(problem.batch_shape, rate)
    if isinstance(rate, Tensor) and rate.shape in (torch.Size(), problem.batch_shape):
        return rate.detach()
    before, after, direction = map(trees.detach, (before, after, direction))
    change = trees.tree_map(torch.sub, after, before)
    length = problem.dot(direction, direction)
    return safe_quotient(problem.dot(change, change), length).sqrt()
