"""Broyden's method: the inverse Jacobian is learned from the steps taken."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.checks import check_whole
from innerloop.problems.root import Root
from innerloop.solvers.base import Solver, StepStats, quotient, report
from innerloop.solvers.searching import inner
from innerloop.trees import Tree


class _Memory(NamedTuple):
    """Vectors have shape (*batch, n)."""

    last: tuple[Tensor, Tensor] | None = None
    """The last point and F there."""
    pairs: tuple[tuple[Tensor, Tensor], ...] = ()
    """Vectors u and v whose products u v' are added to the first inverse."""


class Broyden(Solver):
    """Broyden's good method for equations F(p) = 0: one F per step, and no derivative of it.

    The inverse Jacobian begins as a multiple of the identity, which suits a `FixedPoint`, where F
    is p − f(p); with every step it learns how F changed along it. It is kept as a sum of rank-one
    terms.

    Args:
        initial: multiple of the identity to begin with: a number, not zero, which is negative where
            F falls; or a tensor of shape () or `batch_shape`. Default 1.
        history: number of steps after which it forgets all that it has learned and begins again; a
            step takes memory for two vectors. Default 30.

    Source:
        Broyden, A Class of Methods for Solving Nonlinear Simultaneous Equations, 1965; Nocedal and
        Wright, Numerical Optimization, 2006, algorithm 11.3, inverted by Sherman and Morrison.
    """

    solves = Root

    def __init__(self, initial: float | Tensor = 1.0, *, history: int = 30) -> None:
        if not isinstance(initial, int | float | Tensor) or isinstance(initial, bool):
            raise TypeError(f"initial: {initial!r}, should be a number or a tensor")
        if not isinstance(initial, Tensor) and not abs(initial) > 0:
            raise ValueError(f"initial: {initial}, should be a number that is not zero")
        check_whole("history", history, 1)
        self.initial = initial
        self.history = history

    def init(self, problem: Root, params: Tree) -> _Memory:
        return _Memory()

    def step(self, problem: Root, params: Tree, state: _Memory) -> tuple[Tree, _Memory, StepStats]:
        batch_dims = len(problem.batch_shape)
        loss, residual = problem.value_and_condition(params)
        point, value = (trees.ravel(tree, batch_dims) for tree in (params, residual))
        start = torch.as_tensor(self.initial, dtype=point.dtype, device=point.device).unsqueeze(-1)
        pairs = self._learned(start, point, value, state)
        direction = trees.unravel(-_times(start, pairs, value), params, batch_dims)
        stats = report(problem, loss, residual, torch.ones_like(loss))
        return trees.add(params, direction), _Memory((point, value), pairs), stats

    def _learned(
        self, start: Tensor, point: Tensor, value: Tensor, state: _Memory
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """The terms of the inverse that maps the last change of F to the last step."""
        if state.last is None:
            return ()
        pairs = state.pairs if len(state.pairs) < self.history else ()
        step, change = point - state.last[0], value - state.last[1]
        expected = _times(start, pairs, change)
        row = _times(start, [(v, u) for u, v in pairs], step)
        product = inner(step, expected)
        # Too small a product, or none, says nothing that rounding does not.
        least = torch.finfo(point.dtype).eps * inner(step, step).detach()
        column = quotient(step - expected, product, product.detach().abs() <= least)
        return (*pairs, (column, row))

    def carried(self, state: _Memory) -> _Memory:
        return state

    def check_carried(self, problem: Root, params: Tree, carried: Any) -> None:
        super().check_carried(problem, params, carried)
        if not isinstance(carried, _Memory) or len(carried.pairs) > self.history:
            raise ValueError(
                "state: does not fit this Broyden, should come from one with the same history"
            )


def _times(start: Tensor, pairs: Any, vector: Tensor) -> Tensor:
    """The inverse Jacobian times a vector."""
    terms = [u * inner(v, vector) for u, v in pairs]
    return sum(terms, start=start * vector)
