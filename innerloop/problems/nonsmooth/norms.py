"""Norms that make parameters sparse."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.nonsmooth.base import (
    Nonsmooth,
    broadcast,
    check_dims,
    check_per_problem,
    check_setting,
    check_values,
    length,
    negative_dims,
    total,
)


class L1(Nonsmooth):
    """The term λ |p|₁, which makes parameters zero one by one: the lasso.

    Args:
        weight: λ, not negative: a number, or a tensor of shape (), one value per problem, or
            broadcasting over the parameters.

    Source:
        Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996; Daubechies et al., An
        Iterative Thresholding Algorithm for Linear Inverse Problems, 2004 (soft thresholding).
    """

    def __init__(self, weight: float | Tensor) -> None:
        check_values("weight", weight, "not negative", 0.0)
        self.weight = weight

    def value(self, tensor: Tensor, batch_dims: int) -> Tensor:
        weighed = broadcast(self.weight, tensor, batch_dims) * tensor.abs()
        return total(weighed, batch_dims)

    def prox(self, tensor: Tensor, size: Tensor, batch_dims: int) -> Tensor:
        threshold = trees.per_problem(size, tensor) * broadcast(self.weight, tensor, batch_dims)
        # Both halves are zero, without derivative, on what is thresholded.
        return (tensor - threshold).relu() - (-tensor - threshold).relu()

    def check(self, where: str, tensor: Tensor, batch_dims: int) -> None:
        check_setting("weight", self.weight, where, tensor, batch_dims)


class GroupLasso(Nonsmooth):
    """The term λ Σ |p_g| of the norms of groups g, which makes whole groups zero.

    Args:
        weight: λ, not negative: a number, or a tensor of shape () or one value per problem.
        dim: the axis, or axes, of a group, counted from the last one: with -1, every vector along
            the last axis is a group. Default -1.

    Source:
        Yuan and Lin, Model Selection and Estimation in Regression with Grouped Variables, 2006.
    """

    def __init__(self, weight: float | Tensor, dim: int | tuple[int, ...] = -1) -> None:
        check_values("weight", weight, "not negative", 0.0)
        self.weight = weight
        self.dims = negative_dims(dim)

    def value(self, tensor: Tensor, batch_dims: int) -> Tensor:
        weighed = broadcast(self.weight, tensor, batch_dims) * length(tensor, self.dims)
        return total(weighed, batch_dims)

    def prox(self, tensor: Tensor, size: Tensor, batch_dims: int) -> Tensor:
        threshold = trees.per_problem(size, tensor) * broadcast(self.weight, tensor, batch_dims)
        norm = length(tensor, self.dims)
        kept = norm > threshold
        share = 1 - threshold / torch.where(kept, norm, 1.0)
        return torch.where(kept, share, 0.0) * tensor

    def check(self, where: str, tensor: Tensor, batch_dims: int) -> None:
        check_dims(self.dims, where, tensor, batch_dims)
        check_per_problem("weight", self.weight, tensor, batch_dims)
