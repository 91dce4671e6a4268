"""Any differentiable loss as a problem."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop import _autodiff as autodiff
from innerloop.problems.base import Problem, Solvable
from innerloop.problems.checks import named
from innerloop.trees import Tree


class Objective(Problem):
    """Any differentiable scalar loss of a tree of tensors.

    It may return more than its value:

        def fit(w):
            prediction = x @ w
            return (prediction - y).square().mean(), prediction

        solution = il.solve(il.Objective(fit, has_aux=True), w, il.Adam(0.1), steps=5)
        prediction = solution.aux

    Args:
        fn: maps parameters to their loss, shape `batch_shape`. Tensors that it closes over (data,
            hyperparameters) receive the outer gradient.
        batch_shape: leading dimensions of every parameter if `fn` computes the losses of a batch of
            independent problems. Default (): one problem.
        has_aux: `fn` returns a pair of the loss and anything else, such as predictions, of which
            `Solution.aux` is what it returns at the solution. Default False.
    """

    def __init__(
        self,
        fn: Callable[[Tree], Any],
        batch_shape: tuple[int, ...] = (),
        *,
        has_aux: bool = False,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn: {type(fn).__name__}, should be a function of the parameters")
        self.fn = fn
        self.batch_shape = torch.Size(batch_shape)
        self.has_aux = has_aux

    def loss(self, params: Tree) -> Tensor:
        loss = self._pair(params)[0] if self.has_aux else self.fn(params)
        if not isinstance(loss, Tensor):
            raise TypeError(f"fn: returned {type(loss).__name__}, should return a tensor")
        if loss.shape != self.batch_shape:
            raise ValueError(
                f"fn: returned shape {tuple(loss.shape)}, should be one loss per problem, "
                f"{tuple(self.batch_shape)}"
            )
        return loss

    def aux(self, params: Tree) -> Any:
        return self._pair(params)[1] if self.has_aux else None

    def _pair(self, params: Tree) -> tuple[Any, Any]:
        pair = self.fn(params)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"fn: returned {named(pair)}, should return a pair of loss and aux with has_aux"
            )
        return pair

    def value_and_partial_gradient(self, params: Tree) -> tuple[Tensor, Tree]:
        return autodiff.value_and_partial_gradient(self.loss, params)


def as_problem(problem: Solvable | Callable[[Tree], Tensor]) -> Solvable:
    """Wrap a plain function of the parameters in an `Objective`."""
    return problem if isinstance(problem, Solvable) else as_smooth(problem)


def as_smooth(problem: Problem | Callable[[Tree], Tensor]) -> Problem:
    """The same, for problems that have a gradient."""
    if isinstance(problem, Problem):
        return problem
    if isinstance(problem, type) or not callable(problem):
        raise TypeError(
            f"problem: {named(problem)}, should be a Problem or a function that maps parameters to "
            "a scalar loss"
        )
    return Objective(problem)
