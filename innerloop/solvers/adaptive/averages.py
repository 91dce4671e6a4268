"""Averages of gradients and of their squares, differentiable also where these are zero."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.solvers.gradient import Hyperparameter
from innerloop.trees import Tree


def smooth_sqrt(square: Tensor) -> Tensor:
    """Square root with zero derivatives at zero, where they would be infinite.

    The derivatives are also zero at subnormal numbers, where they would overflow; those of float16
    are too large for that. Values that rounding made negative count as zero.
    """
    floor = 0.0 if square.dtype == torch.float16 else torch.finfo(square.dtype).tiny
    empty = square <= floor
    root = torch.where(empty, 1.0, square).sqrt()
    return torch.where(empty, square.detach().clamp(min=0.0).sqrt(), root)


def divided(numerator: Tensor, root: Tensor, eps: Hyperparameter) -> Tensor:
    """`numerator / (root + eps)`, and zero for 0 / 0, as where float16 rounds eps to zero."""
    denominator = root + eps
    if isinstance(eps, int | float) and eps >= torch.finfo(root.dtype).tiny:
        return numerator / denominator
    empty = (numerator == 0) & (denominator == 0)
    return torch.where(empty, 0.0, numerator / torch.where(empty, 1.0, denominator))


def average(old: Tree, new: Tree, keep: Hyperparameter) -> Tree:
    """Exponential average: `keep * old + (1 - keep) * new`."""
    if isinstance(keep, Tensor):
        return trees.tree_map(lambda a, b: keep * a + (1 - keep) * b, old, new)
    return trees.tree_map(lambda a, b: torch.lerp(a, b, 1 - keep), old, new)


def average_square(old: Tree, new: Tree, keep: Hyperparameter) -> Tree:
    """`keep * old + (1 - keep) * new²`; a square that underflows first would be lost in float16."""
    if isinstance(keep, Tensor):
        return trees.tree_map(lambda a, b: keep * a + (1 - keep) * b * b, old, new)
    return trees.tree_map(lambda a, b: torch.addcmul(keep * a, b, b, value=1 - keep), old, new)


class Moments(NamedTuple):
    """Exponential averages of the gradient and of its square."""

    mean: Tree
    square: Tree


def check_factors(**factors: Hyperparameter) -> None:
    """Raise ValueError for factors of averages that are 1 or more; tensors may be learned."""
    for name, values in factors.items():
        for value in trees.leaves(values):
            if isinstance(value, int | float) and value >= 1:
                raise ValueError(f"{name}: {value}, should be below 1")
