"""Adam whose first steps, of which the squares say little, are plain ones."""

from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop.solvers.adaptive.adam import Adam
from innerloop.solvers.adaptive.averages import (
    Moments,
    average,
    average_square,
    divided,
    smooth_sqrt,
)
from innerloop.trees import Tree

_LEAST = 5.0
"""Length of the average of squares from which on it is trusted."""


class RAdam(Adam):
    """Adam with a rectified variance, as `torch.optim.RAdam`.

    Args:
        rate, beta1, beta2, eps, weight_decay: see `Adam`.

    Source:
        Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020,
        algorithm 2.
    """

    def update(self, gradient: Tree, memory: Moments, step: int) -> tuple[Tree, Moments]:
        mean = average(memory.mean, gradient, self.beta1)
        square = average_square(memory.square, gradient, self.beta2)
        first = 1 - self.beta1 ** (step + 1)
        second = (1 - self.beta2 ** (step + 1)) ** 0.5
        rectified = _rectification(self.beta2, step + 1)

        def direction(m: Tensor, v: Tensor) -> Tensor:
            plain = m / first
            if isinstance(rectified, float) and not rectified:
                return -plain
            scaled = rectified * second * divided(plain, smooth_sqrt(v), self.eps)
            if isinstance(rectified, float):
                return -scaled
            return -torch.where(rectified > 0, scaled, plain)

        return trees.tree_map(direction, mean, square), Moments(mean, square)


def _rectification(beta2: float | Tensor, steps: int) -> float | Tensor:
    """r of the paper; 0 where the average of squares is too short."""
    longest = 2 / (1 - beta2) - 1
    kept = beta2**steps
    length = longest - 2 * steps * kept / (1 - kept)
    if not isinstance(length, Tensor):
        return _root(length, longest) if length > _LEAST else 0.0
    trusted = length > _LEAST
    # Where it is not trusted, the root may be of a negative number.
    inside = torch.where(trusted, length, _LEAST + 1), torch.where(trusted, longest, _LEAST + 1)
    return torch.where(trusted, _root(*inside), 0.0)


def _root(length: Any, longest: Any) -> Any:
    square = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return square**0.5
