"""Methods that scale every entry of the gradient by its history, like those of torch.optim."""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
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
        for name, betas in (("beta1", beta1), ("beta2", beta2)):
            for beta in trees.leaves(betas):
                if isinstance(beta, int | float) and beta >= 1:
                    raise ValueError(f"{name}: {beta}, should be below 1")
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


class _Root(NamedTuple):
    square: Tree
    velocity: Tree


class RMSprop(GradientMethod):
    """RMSprop with momentum, as `torch.optim.RMSprop`.

    Args:
        rate: step length, see `GradientDescent`. Default 0.01.
        alpha: factor of the average of squared gradients. Default 0.99.
        eps: added to its root. Default 1e-8.
        momentum: factor from one step's velocity to the next. Default 0.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6.5, 2012.
    """

    def __init__(
        self,
        rate: Rate = 0.01,
        *,
        alpha: Hyperparameter = 0.99,
        eps: Hyperparameter = 1e-8,
        momentum: Hyperparameter = 0.0,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        check_not_negative(alpha=alpha, eps=eps, momentum=momentum)
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum

    def memory(self, params: Tree) -> _Root:
        return _Root(trees.zeros_like(params), trees.zeros_like(params))

    def update(self, gradient: Tree, memory: _Root, step: int) -> tuple[Tree, _Root]:
        square = average_square(memory.square, gradient, self.alpha)
        velocity = trees.tree_map(
            lambda u, g, v: self.momentum * u + divided(g, smooth_sqrt(v), self.eps),
            memory.velocity,
            gradient,
            square,
        )
        return trees.negative(velocity), _Root(square, velocity)


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
