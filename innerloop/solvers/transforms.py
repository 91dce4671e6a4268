"""Changes of the gradient before a gradient method follows it; see `GradientMethod.transformed`."""

from collections.abc import Callable
from typing import TypeAlias

import torch

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.problems.checks import named
from innerloop.trees import Tree

GradientTransform: TypeAlias = Callable[[Problem, Tree], Tree]
"""Maps a problem and its gradient to another gradient, made of differentiable operations."""


class ClipNorm:
    """Scale the gradient of each problem down to a max norm, over all its tensors together.

    Args:
        max_norm: positive.

    Source:
        Pascanu et al., On the Difficulty of Training Recurrent Neural Networks, ICML 2013,
        algorithm 1. As `torch.nn.utils.clip_grad_norm_`, without its 1e-6 in the denominator.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = _positive("max_norm", max_norm)

    def __call__(self, problem: Problem, gradient: Tree) -> Tree:
        batch_dims = len(problem.batch_shape)
        vector = trees.ravel(gradient, batch_dims)
        # In units of the greatest entry, as the square of a large gradient may be no number.
        greatest = vector.detach().abs().amax(-1, keepdim=True)
        unit = torch.where((greatest > 0) & greatest.isfinite(), greatest, 1.0)
        square = (vector / unit).square().sum(-1, keepdim=True)
        # The derivative of the norm is infinite at a gradient of zero, which is not clipped.
        large = square > (self.max_norm / unit) ** 2
        norm = torch.where(large, square, 1.0).sqrt()
        clipped = torch.where(large, vector / unit * (self.max_norm / norm), vector)
        return trees.unravel(clipped, gradient, batch_dims)


class ClipValue:
    """Limit every entry of the gradient to a range around zero.

    Args:
        max_value: positive; entries stay between `-max_value` and `max_value`.

    Source:
        As `torch.nn.utils.clip_grad_value_`.
    """

    def __init__(self, max_value: float) -> None:
        self.max_value = _positive("max_value", max_value)

    def __call__(self, problem: Problem, gradient: Tree) -> Tree:
        return trees.tree_map(lambda part: part.clamp(-self.max_value, self.max_value), gradient)


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: {named(value)}, should be a number")
    if not value > 0:
        raise ValueError(f"{name}: {value}, should be positive")
    return value
