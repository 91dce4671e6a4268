"""RMSprop."""

from typing import NamedTuple

from innerloop import trees
from innerloop.solvers.adaptive.averages import average_square, divided, smooth_sqrt
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


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
