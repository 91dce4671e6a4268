"""Quasi-Newton methods: the curvature is learned from the gradients along the way."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.problems.checks import check_whole
from innerloop.solvers.base import quotient
from innerloop.solvers.searching import Direction, SearchingSolver, first_size, inner, magnitude
from innerloop.solvers.wolfe import StrongWolfe


class _Place(NamedTuple):
    """Where the last step began; zeros before the first."""

    point: Tensor
    gradient: Tensor
    begun: Tensor
    """1 after the first step, shape (*batch, 1)."""


class _Latest(NamedTuple):
    """The last step and change of the gradient, each divided by its `magnitude`."""

    step: Tensor
    change: Tensor
    ratio: Tensor
    """Of the magnitudes of step and change, shape (*batch, 1)."""
    curved: Tensor
    """Whether they say something of the curvature; boolean, shape (*batch, 1)."""


class _Pairs(NamedTuple):
    """The last steps and changes of the gradient, oldest first; zeros where there are none."""

    place: _Place
    steps: Tensor
    """Shape (*batch, history, n); see `_Latest`."""
    changes: Tensor
    ratios: Tensor
    """Shape (*batch, history, 1)."""


class _Inverse(NamedTuple):
    """The inverse Hessian as it is known so far."""

    place: _Place
    matrix: Tensor
    """Shape (*batch, n, n)."""
    learned: Tensor
    """1 once it is more than the identity, shape (*batch, 1)."""


class LBFGS(SearchingSolver):
    """The BFGS method with limited memory: an inverse Hessian of the last steps alone.

    Args:
        history: number of steps that are remembered. Default 10.
        search: the search along a direction. Default `StrongWolfe()`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithms 7.4 and 7.5.
    """

    def __init__(self, history: int = 10, *, search: StrongWolfe | None = None) -> None:
        super().__init__(search or StrongWolfe())
        check_whole("history", history, 1)
        self.history = history

    def memory(self, vector: Tensor) -> _Pairs:
        *batch, size = vector.shape
        pairs = vector.new_zeros(*batch, self.history, size)
        return _Pairs(_nowhere(vector), pairs, pairs, pairs[..., :1])

    def direction(self, point: Tensor, gradient: Tensor, memory: _Pairs) -> Direction:
        latest = _latest(point, gradient, memory.place)
        kept = latest.curved.unsqueeze(-1)
        pairs = (
            torch.where(kept, torch.cat([old[..., 1:, :], new.unsqueeze(-2)], -2), old)
            for old, new in zip(memory[1:], latest[:3], strict=True)
        )
        place = _Place(point, gradient, torch.ones_like(memory.place.begun))
        memory = _Pairs(place, *pairs)
        vector, learned = _two_loops(gradient, memory)
        return _descending(vector, learned, gradient, memory)


class BFGS(SearchingSolver):
    """The method of Broyden, Fletcher, Goldfarb and Shanno, with the whole inverse Hessian.

    It takes memory for n² numbers of n parameters; `LBFGS` is for many.

    Args:
        search: the search along a direction. Default `StrongWolfe()`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithm 6.1 and eq. 6.20.
    """

    def __init__(self, *, search: StrongWolfe | None = None) -> None:
        super().__init__(search or StrongWolfe())

    def memory(self, vector: Tensor) -> _Inverse:
        size = vector.shape[-1]
        eye = torch.eye(size, dtype=vector.dtype, device=vector.device)
        matrix = eye.expand(*vector.shape, size)
        return _Inverse(_nowhere(vector), matrix, torch.zeros_like(vector[..., :1]))

    def direction(self, point: Tensor, gradient: Tensor, memory: _Inverse) -> Direction:
        step, change, ratio, curved = _latest(point, gradient, memory.place)
        known = memory.learned.unsqueeze(-1) > 0
        product = inner(step, change)
        scale = (ratio * quotient(product, inner(change, change), ~curved)).unsqueeze(-1)
        matrix = torch.where(known, memory.matrix, scale * memory.matrix)
        weight = quotient(torch.ones_like(product), product, ~curved).unsqueeze(-1)
        column, row = step.unsqueeze(-1), change.unsqueeze(-2)
        eye = torch.eye(step.shape[-1], dtype=step.dtype, device=step.device)
        side = eye - weight * column * row
        updated = side @ matrix @ side.mT + ratio.unsqueeze(-1) * weight * column * column.mT
        matrix = torch.where(curved.unsqueeze(-1), updated, memory.matrix)
        vector = -(matrix @ gradient.unsqueeze(-1)).squeeze(-1)
        learned = torch.maximum(memory.learned, curved.to(step))
        place = _Place(point, gradient, torch.ones_like(memory.place.begun))
        return _descending(vector, learned > 0, gradient, _Inverse(place, matrix, learned))


def _nowhere(vector: Tensor) -> _Place:
    zero = torch.zeros_like(vector)
    return _Place(zero, zero, zero[..., :1])


def _latest(point: Tensor, gradient: Tensor, before: _Place) -> _Latest:
    step, change = point - before.point, gradient - before.gradient
    length, rise = magnitude(step), magnitude(change)
    step, change, ratio = step / length, change / rise, length / rise
    with torch.no_grad():
        least = torch.finfo(step.dtype).eps * inner(change, change)
        curved = (before.begun > 0) & (ratio * inner(step, change) > least)
    return _Latest(step, change, ratio, curved)


def _two_loops(gradient: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    """Minus the inverse Hessian of the pairs times a gradient, and whether there are pairs."""
    rows = list(zip(*(rows.unbind(-2) for rows in pairs[1:]), strict=True))
    products = [inner(step, change) for step, change, _ in rows]
    none = [product.detach() <= 0 for product in products]
    vector, shares = gradient, []
    for (step, change, _), product, empty in reversed(list(zip(rows, products, none, strict=True))):
        share = quotient(inner(step, vector), product, empty)
        shares.append(share)
        vector = vector - share * change
    _, last, ratio = rows[-1]
    scale = ratio * quotient(products[-1], inner(last, last), none[-1])
    vector = torch.where(none[-1], vector, scale * vector)
    for (step, change, ratio), product, empty in zip(rows, products, none, strict=True):
        again = quotient(inner(change, vector), product, empty)
        vector = vector + step * (ratio * shares.pop() - again)
    return -vector, ~none[-1]


def _descending(vector: Tensor, learned: Tensor, gradient: Tensor, memory: object) -> Direction:
    """The direction, or the gradient where rounding has made it point upwards."""
    down = inner(vector, gradient).detach() < 0
    usable = learned & down
    initial = torch.where(usable[..., 0], 1.0, first_size(gradient))
    return Direction(torch.where(usable, vector, -gradient), initial, memory)
