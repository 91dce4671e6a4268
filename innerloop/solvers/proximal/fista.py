"""Accelerated proximal gradient descent."""

from typing import NamedTuple

from innerloop import trees
from innerloop.problems.composite import Composite
from innerloop.solvers.base import StepStats
from innerloop.solvers.proximal.gradient import ProximalGradient, ProximalState
from innerloop.trees import Tree


class _Momentum(NamedTuple):
    factor: float
    """t, which grows by about ½ per step."""
    ahead: Tree
    """y, the point that the next step starts from."""


class FISTA(ProximalGradient):
    """The fast iterative shrinkage-thresholding algorithm: proximal gradient steps with momentum.

    The gradient is taken at a point y ahead of the parameters, along the last step; the reports are
    of that point. The error of the loss falls with the square of the number of steps.

    Args:
        rate: η, at most 1 / L for a gradient with Lipschitz constant L, see `ProximalGradient`.
            Default 0.01.

    Source:
        Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
        Problems, 2009, eq. 4.1 to 4.3.
    """

    def init(self, problem: Composite, params: Tree) -> ProximalState:
        return super().init(problem, params)._replace(momentum=_Momentum(1.0, params))

    def step(
        self, problem: Composite, params: Tree, state: ProximalState
    ) -> tuple[Tree, ProximalState, StepStats]:
        factor, ahead = state.momentum
        moved, size, stats = self.advance(problem, ahead, state)
        following = (1 + (1 + 4 * factor**2) ** 0.5) / 2
        keep = (factor - 1) / following
        ahead = trees.tree_map(lambda new, old: new + keep * (new - old), moved, params)
        return moved, ProximalState(state.step + 1, size, _Momentum(following, ahead)), stats
