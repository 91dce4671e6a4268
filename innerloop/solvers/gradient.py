"""Gradient descent, and a learned update that replaces it."""

from typing import Any

from torch import Tensor, nn

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import DirectionSolver, GradientMethod, State
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree

Hyperparameter = float | Tensor | Tree
"""A number, a tensor of shape (), or a tree of these, one for each tensor of the parameters."""


class GradientDescent(GradientMethod):
    """Gradient descent with momentum, as `torch.optim.SGD`.

    Args:
        rate: step length: a number, a tensor, a tree of these like the parameters, a
            `LearningRates`, or a line search. Default 0.01.
        momentum: factor from one step's velocity to the next. Default 0.
        nesterov: look ahead along the velocity. Default False.
        weight_decay: multiple of the parameters that is added to the gradient. Default 0.

    Source:
        Sutskever et al., On the Importance of Initialization and Momentum in Deep Learning, 2013.
    """

    def __init__(
        self,
        rate: Rate = 0.01,
        *,
        momentum: Hyperparameter = 0.0,
        nesterov: bool = False,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        check_not_negative(momentum=momentum)
        self.momentum = momentum
        self.nesterov = nesterov
        self._plain = isinstance(momentum, int | float) and momentum == 0

    def memory(self, params: Tree) -> Tree:
        return None if self._plain else trees.zeros_like(params)

    def update(self, gradient: Tree, memory: Tree, step: int) -> tuple[Tree, Tree]:
        if self._plain:
            return trees.negative(gradient), None
        velocity = trees.tree_map(lambda v, g: self.momentum * v + g, memory, gradient)
        ahead = velocity
        if self.nesterov:
            ahead = trees.tree_map(lambda v, g: self.momentum * v + g, velocity, gradient)
        return trees.negative(ahead), velocity


class LearnedUpdate(DirectionSolver):
    """An update computed by a network from the gradient and its own state.

    Args:
        network: called with the gradient (structured like the parameters, zero for those that the
            loss does not depend on) and its state, None at the first step; returns the update that
            is added to the parameters, structured like them, and its next state, a tree of tensors.
        rate: multiple of the update. Default 1.

    Source:
        Andrychowicz et al., Learning to Learn by Gradient Descent by Gradient Descent, NeurIPS
        2016.
    """

    def __init__(self, network: nn.Module, rate: Rate = 1.0) -> None:
        super().__init__(rate)
        self.network = network

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Any, step: int
    ) -> tuple[Tree, Any]:
        update, memory = self.network(gradient, memory)
        return update, memory

    def carried(self, state: State) -> State:
        return state

    def check_carried(self, problem: Problem, params: Tree, carried: Any) -> None:
        pass  # the network defines its own state
