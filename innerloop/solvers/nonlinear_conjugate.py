"""Nonlinear conjugate gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.solvers.base import safe_quotient
from innerloop.solvers.searching import Direction, SearchingSolver, first_size, inner, magnitude
from innerloop.solvers.wolfe import Found, StrongWolfe, on_grid


class _Last(NamedTuple):
    """The last step; zeros before the first."""

    gradient: Tensor
    vector: Tensor
    moved: Tensor
    """Decrease that the slope predicted for the size that was taken, shape (*batch, 1)."""


class NonlinearConjugateGradient(SearchingSolver):
    """Conjugate gradients on any smooth loss, by the formula of Polak and Ribière.

    Where its factor would be negative, it takes that of Hestenes and Stiefel, which keeps the
    direction conjugate to the last one after an inexact search too. Where the direction would not
    lead downwards, it starts again with the gradient. It remembers two vectors, whatever the number
    of steps.

    Args:
        search: the search along a direction. Default `StrongWolfe(curvature=0.1)`.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, algorithm 5.4 with eq. 5.44 and 5.46.
    """

    def __init__(self, *, search: StrongWolfe | None = None) -> None:
        super().__init__(search or StrongWolfe(curvature=0.1))

    def memory(self, vector: Tensor) -> _Last:
        zero = torch.zeros_like(vector)
        return _Last(zero, zero, zero[..., :1])

    def direction(self, point: Tensor, gradient: Tensor, memory: _Last) -> Direction:
        change = gradient - memory.gradient
        scale, unit = magnitude(memory.gradient), magnitude(change)
        old, turn = memory.gradient / scale, change / unit
        ahead = memory.vector / scale
        product = inner(gradient, turn)
        factor = safe_quotient(product, inner(old, old)) * (unit / scale)
        conjugate = safe_quotient(product, inner(ahead, turn))
        vector = torch.where(factor < 0, conjugate, factor) * ahead - gradient
        down = inner(vector, gradient).detach() < 0
        vector = torch.where(down, vector, -gradient)
        with torch.no_grad():
            # As much as the last step gained.
            slope = -inner(vector, gradient)
            size = safe_quotient(memory.moved, slope)
            initial = torch.where(size > 0, on_grid(size, 4), first_size(gradient).unsqueeze(-1))
        return Direction(vector, initial[..., 0], _Last(gradient, vector, slope))

    def remember(self, memory: _Last, found: Found) -> _Last:
        return memory._replace(moved=found.size.unsqueeze(-1) * memory.moved)
