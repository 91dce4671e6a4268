"""Solvers that follow a direction of descent as far as a search along it says."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.base import Problem
from innerloop.solvers.base import Solver, StepStats, check_instance, report
from innerloop.solvers.wolfe import Found, StrongWolfe, on_grid
from innerloop.trees import Tree


class Search(NamedTuple):
    """The state of a searching solver."""

    memory: Any
    known: tuple[Tensor, Tree] | None = None
    """Loss and gradient where the last search ended, as constants."""


class Direction(NamedTuple):
    """Where to go from the parameters."""

    vector: Tensor
    """Side by side like `trees.ravel`, shape (*batch, n)."""
    initial: Tensor
    """Size to try first, shape (*batch)."""
    memory: Any


class SearchingSolver(Solver):
    """Moves along a direction of descent to where the strong Wolfe conditions hold.

    Without gradients, a step takes the loss and the gradient that the last search ended with, and
    evaluates only what its own search tries.

    Args:
        search: the search along a direction.
    """

    def __init__(self, search: StrongWolfe) -> None:
        check_instance("search", search, StrongWolfe, "StrongWolfe()")
        self.search = search

    @abstractmethod
    def memory(self, vector: Tensor) -> Any:
        """The memory before the first step from parameters side by side, shape (*batch, n)."""

    @abstractmethod
    def direction(self, point: Tensor, gradient: Tensor, memory: Any) -> Direction:
        """The direction at a point with a gradient, each of shape (*batch, n)."""

    def remember(self, memory: Any, found: Found) -> Any:
        """The memory after the search. Default: as it was."""
        return memory

    def init(self, problem: Problem, params: Tree) -> Search:
        return Search(self.memory(trees.ravel(params, len(problem.batch_shape))))

    def carried(self, state: Search) -> Search:
        return Search(state.memory)  # the next problem may be another one

    def check_carried(self, problem: Problem, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        new = trees.leaves(self.memory(trees.ravel(params, len(problem.batch_shape))))
        old = trees.leaves(carried.memory) if isinstance(carried, Search) else []
        if [part.shape for part in old] != [part.shape for part in new]:
            raise ValueError(
                f"state: does not fit this {type(self).__name__}, should come from one with the "
                "same settings, on parameters of the same shapes"
            )

    def step(self, problem: Problem, params: Tree, state: Search) -> tuple[Tree, Search, StepStats]:
        batch_dims = len(problem.batch_shape)
        if state.known is None or problem.changing or torch.is_grad_enabled():
            loss, gradient = problem.value_and_gradient(params)
        else:
            loss, gradient = state.known
        point, slope = (trees.ravel(tree, batch_dims) for tree in (params, gradient))
        vector, initial, memory = self.direction(point, slope, state.memory)
        direction = trees.unravel(vector, params, batch_dims)
        found = self.search(problem, params, direction, loss, gradient, initial)
        moved = trees.add_scaled(params, found.size, direction)
        memory = self._or_fresh(self.remember(memory, found), found.size, point)
        state = Search(memory, (found.loss, found.gradient))
        return moved, state, report(problem, loss, gradient, found.size)

    def _or_fresh(self, memory: Any, size: Tensor, point: Tensor) -> Any:
        """The memory; where the search found nothing, one that starts again with the gradient."""
        stuck = size == 0
        if not transforming() and not bool(stuck.any()):
            return memory
        return trees.tree_map(
            lambda old, new: torch.where(trees.per_problem(stuck, new).bool(), new, old),
            memory,
            self.memory(point),
        )


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per problem of vectors (*batch, n), shape (*batch, 1)."""
    return (a * b).sum(-1, keepdim=True)


def magnitude(vector: Tensor) -> Tensor:
    """The greatest entry in size, a constant, or 1 if all are zero; shape (*batch, 1).

    Divided by it, vectors have products that are numbers at any scale, and so have derivatives.
    """
    greatest = vector.detach().abs().amax(-1, keepdim=True)
    return torch.where(greatest > 0, greatest, 1.0)


def first_size(gradient: Tensor) -> Tensor:
    """The size to try first along a gradient: a step not longer than 1, shape (*batch)."""
    norm = gradient.detach().norm(dim=-1)
    size = torch.where(norm > 1, 1 / norm, 1.0).nan_to_num(1.0)
    return on_grid(size, 1)
