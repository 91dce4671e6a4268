"""Adadelta: steps in the units of the parameters."""

from typing import NamedTuple

from innerloop import trees
from innerloop.solvers.adaptive.averages import average_square, check_factors, divided, smooth_sqrt
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class _Squares(NamedTuple):
    """Averages of squared gradients and of squared steps."""

    gradient: Tree
    moved: Tree


class Adadelta(GradientMethod):
    """Adadelta, as `torch.optim.Adadelta`.

    Args:
        rate: multiple of the method's own step, see `GradientDescent`. Default 1.
        rho: factor of the averages of squares, below 1. Default 0.9.
        eps: added to these squares. Default 1e-6.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012, algorithm 1.
    """

    def __init__(
        self,
        rate: Rate = 1.0,
        *,
        rho: Hyperparameter = 0.9,
        eps: Hyperparameter = 1e-6,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        check_not_negative(rho=rho, eps=eps)
        check_factors(rho=rho)
        self.rho = rho
        self.eps = eps

    def memory(self, params: Tree) -> _Squares:
        return _Squares(trees.zeros_like(params), trees.zeros_like(params))

    def update(self, gradient: Tree, memory: _Squares, step: int) -> tuple[Tree, _Squares]:
        square = average_square(memory.gradient, gradient, self.rho)
        direction = trees.tree_map(
            lambda g, v, d: -divided(smooth_sqrt(d + self.eps) * g, smooth_sqrt(v + self.eps), 0.0),
            gradient,
            square,
            memory.moved,
        )
        return direction, _Squares(square, average_square(memory.moved, direction, self.rho))
