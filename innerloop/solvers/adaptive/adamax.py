"""Adam by the largest gradient instead of the mean square."""

import torch

from innerloop import trees
from innerloop.solvers.adaptive.adam import Adam
from innerloop.solvers.adaptive.averages import Moments, average, divided
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class Adamax(Adam):
    """Adam by the infinity norm of past gradients, as `torch.optim.Adamax`.

    Args:
        rate: step length, see `GradientDescent`. Default 0.002.
        beta1: factor of the average of gradients, below 1. Default 0.9.
        beta2: factor by which the largest gradient shrinks each step, below 1. Default 0.999.
        eps: added to the size of each gradient. Default 1e-8.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 2.
    """

    def __init__(
        self,
        rate: Rate = 2e-3,
        *,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.999,
        eps: Hyperparameter = 1e-8,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def update(self, gradient: Tree, memory: Moments, step: int) -> tuple[Tree, Moments]:
        mean = average(memory.mean, gradient, self.beta1)
        largest = trees.tree_map(
            lambda u, g: torch.maximum(self.beta2 * u, g.abs() + self.eps), memory.square, gradient
        )
        first = 1 - self.beta1 ** (step + 1)
        direction = trees.tree_map(lambda m, u: -divided(m / first, u, 0.0), mean, largest)
        return direction, Moments(mean, largest)
