"""Whether a step is good enough to be taken, by the loss that it reaches."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop.trees import Tree


def gain(loss: Tensor, reached: Tensor, promised: Tensor) -> Tensor:
    """Decrease of the loss, relative to the model's prediction; 1 where all is rounding.

    A step that changes only the last digits is a success: at a solution the losses no longer
    differ, and refusing the step would cut the outer gradient.
    """
    noise = 4 * torch.finfo(loss.dtype).eps * loss.abs()
    fall = loss - reached
    rounding = torch.maximum(fall.abs(), promised) <= noise
    # Where the new loss is not finite, neither is the ratio.
    ratio = torch.where(rounding, 1.0, fall / promised).nan_to_num(-1.0, -1.0, -1.0)
    # Rounding can make the model promise a growth, which is no reason to step.
    return torch.where(rounding | (promised > 0), ratio, -1.0)


def negligible(norm: Tensor, length: Tensor) -> Tensor:
    """Whether a step of this norm, from parameters of this norm, is rounding."""
    return norm <= 8 * torch.finfo(norm.dtype).eps * length


def take(params: Tree, change: Tree, better: Tensor, loss: Tensor) -> tuple[Tree, Tensor]:
    """Take the step where it is better, or where the loss is NaN, so that it is reported.

    Returns:
        The next parameters, and per problem 1 if the step was taken, 0 if not.
    """
    better = better | loss.detach().isnan()
    moved = trees.tree_map(
        lambda p, c: p + torch.where(trees.per_problem(better, p).bool(), c, 0.0), params, change
    )
    return moved, better.to(loss.dtype)
