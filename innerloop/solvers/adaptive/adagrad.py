"""Adagrad."""

import torch

from innerloop import trees
from innerloop.solvers.adaptive.averages import divided, smooth_sqrt
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class Adagrad(GradientMethod):
    """Adagrad, as `torch.optim.Adagrad`.

    Args:
        rate: step length, see `GradientDescent`. Default 0.01.
        eps: added to the root of the summed squares. Default 1e-10.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Duchi et al., Adaptive Subgradient Methods for Online Learning, JMLR 2011.
    """

    def __init__(
        self,
        rate: Rate = 0.01,
        *,
        eps: Hyperparameter = 1e-10,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        check_not_negative(eps=eps)
        self.eps = eps

    def memory(self, params: Tree) -> Tree:
        return trees.zeros_like(params)

    def update(self, gradient: Tree, memory: Tree, step: int) -> tuple[Tree, Tree]:
        total = trees.tree_map(lambda s, g: torch.addcmul(s, g, g), memory, gradient)
        direction = trees.tree_map(
            lambda g, s: -divided(g, smooth_sqrt(s), self.eps), gradient, total
        )
        return direction, total
