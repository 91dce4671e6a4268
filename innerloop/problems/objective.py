"""Any differentiable loss as a problem."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop import _autodiff as autodiff
from innerloop.problems.base import Problem, Solvable
from innerloop.problems.checks import named
from innerloop.trees import Tree


class Objective(Problem):
    """Any differentiable scalar loss of a tree of tensors.

    Args:
        fn: maps parameters to their loss, shape `batch_shape`. Tensors that it closes over (data,
            hyperparameters) receive the outer gradient.
        batch_shape: leading dimensions of every parameter if `fn` computes the losses of a batch of
            independent problems. Default (): one problem.
    """

    def __init__(self, fn: Callable[[Tree], Tensor], batch_shape: tuple[int, ...] = ()) -> None:
        if not callable(fn):
            raise TypeError(f"fn: {type(fn).__name__}, should be a function of the parameters")
        self.fn = fn
        self.batch_shape = torch.Size(batch_shape)

    def loss(self, params: Tree) -> Tensor:
        loss = self.fn(params)
        if not isinstance(loss, Tensor):
            raise TypeError(f"fn: returned {type(loss).__name__}, should return a tensor")
        if loss.shape != self.batch_shape:
            raise ValueError(
                f"fn: returned shape {tuple(loss.shape)}, should be one loss per problem, "
                f"{tuple(self.batch_shape)}"
            )
        return loss

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
