"""Lion: only the signs of averaged gradients count."""

from innerloop import trees
from innerloop.problems.base import Problem
from innerloop.solvers.adaptive.averages import average, check_factors
from innerloop.solvers.base import check_not_negative
from innerloop.solvers.direction import GradientMethod
from innerloop.solvers.gradient import Hyperparameter
from innerloop.solvers.step_sizes import Rate
from innerloop.trees import Tree


class Lion(GradientMethod):
    """Lion: moves every entry by the same amount, in the direction of a sign.

    The sign has no derivative but zero, so that outer gradients see the parameters that a solve
    starts from and the rates, and nothing of the loss.

    Args:
        rate: step length, see `GradientDescent`. Default 1e-4.
        beta1: factor of the average that gives the sign, below 1. Default 0.9.
        beta2: factor of the average that is remembered, below 1. Default 0.99.
        weight_decay: multiple of the parameters that is added to the direction, after the sign.
            Default 0.

    Source:
        Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, algorithm 2.
    """

    def __init__(
        self,
        rate: Rate = 1e-4,
        *,
        beta1: Hyperparameter = 0.9,
        beta2: Hyperparameter = 0.99,
        weight_decay: Hyperparameter = 0.0,
    ) -> None:
        super().__init__(rate, weight_decay)
        check_not_negative(beta1=beta1, beta2=beta2)
        check_factors(beta1=beta1, beta2=beta2)
        self.beta1 = beta1
        self.beta2 = beta2

    def memory(self, params: Tree) -> Tree:
        return trees.zeros_like(params)

    def update(self, gradient: Tree, memory: Tree, step: int) -> tuple[Tree, Tree]:
        direction = trees.tree_map(lambda c: -c.sign(), average(memory, gradient, self.beta1))
        return direction, average(memory, gradient, self.beta2)

    def direction(
        self, problem: Problem, params: Tree, gradient: Tree, memory: Tree, step: int
    ) -> tuple[Tree, Tree]:
        direction, memory = self.update(gradient, memory, step)
        decay = self.weight_decay
        return trees.tree_map(lambda d, p: d - decay * p, direction, params), memory
