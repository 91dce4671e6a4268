"""Adam, without and with decoupled weight decay."""

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.solvers.adaptive.averages import (
    Moments,
    average,
    average_square,
    check_factors,
    divided,
    smooth_sqrt,
)
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class Adam(GradientMethod):
    """Adam, as `torch.optim.Adam`, differentiable also where gradients are zero.

    Args:
        rate: step length, see `GradientDescent`. Default 0.001.
        beta1: factor of the average of gradients, below 1. Default 0.9.
        beta2: factor of the average of their squares, below 1. Default 0.999.
        eps: added to the root of the average square. Default 1e-8.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1.
    """

    def __init__(
        self,
        rate: Rate = 1e-3,
        *,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.999,
        eps: Hyperparameter = 1e-8,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        check_not_negative(beta1=beta1, beta2=beta2, eps=eps)
        check_factors(beta1=beta1, beta2=beta2)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def memory(self, params: Tree) -> Moments:
        return Moments(trees.zeros_like(params), trees.zeros_like(params))

    def update(self, gradient: Tree, memory: Moments, step: int) -> tuple[Tree, Moments]:
        mean = average(memory.mean, gradient, self.beta1)
        square = average_square(memory.square, gradient, self.beta2)
        first = 1 - self.beta1 ** (step + 1)
        second = (1 - self.beta2 ** (step + 1)) ** 0.5
        direction = trees.tree_map(
            lambda m, v: -divided(m / first, smooth_sqrt(v) / second, self.eps), mean, square
        )
        return direction, Moments(mean, square)


class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`.

    Args:
        rate, beta1, beta2, eps: see `Adam`.
        weight_decay: multiple of the parameters that is added to the direction, after averaging.
            Default 0.01.

    Source:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2.
    """

    def __init__(
        self,
        rate: Rate = 1e-3,
        *,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.999,
        eps: Hyperparameter = 1e-8,
        weight_decay: Hyperparameter = 0.01,
    ) -> None:
        super().__init__(rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Moments, step: int
    ) -> tuple[Tree, Moments]:
        direction, memory = self.update(gradient, memory, step)
        decay = self.weight_decay
        return trees.tree_map(lambda d, p: d - decay * p, direction, params), memory
