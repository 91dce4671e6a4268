"""The step size of proximal gradient steps, found by trial."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.checks import check_whole
from innerloop.problems.composite import Composite
from innerloop.trees import Tree


class Backtracking:
    """The first of a decreasing sequence of sizes η at which the quadratic model bounds the loss.

    That is f(q) ≤ f(p) + ∇f·(q − p) + |q − p|² / 2η for the smooth part f and the point q that the
    step reaches, which holds once η ≤ 1 / L for a gradient with Lipschitz constant L. Every step
    begins with the size of the last one. If no size does, the problem takes the step of the last
    one tried. The outer gradient treats the size as a constant.

    Args:
        initial: size that the first step tries first, above 0. Default 1.
        shrink: factor from one size to the next, between 0 and 1. Default 0.5.
        trials: max number of sizes tried in a step. Default 30.

    Source:
        Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
        Problems, 2009, sections 3 and 4.
    """

    def __init__(self, initial: float = 1.0, shrink: float = 0.5, trials: int = 30) -> None:
        if not initial > 0:
            raise ValueError(f"initial: {initial}, should be above 0")
        if not 0 < shrink < 1:
            raise ValueError(f"shrink: {shrink}, should lie between 0 and 1")
        check_whole("trials", trials, 1)
        self.initial = initial
        self.shrink = shrink
        self.trials = trials

    @torch.no_grad()
    def __call__(
        self,
        problem: Composite,
        params: Tree,
        loss: Tensor,
        gradient: Tree,
        size: Tensor,
        reach: Callable[[Tree, Tree, Tensor], Tree],
    ) -> Tensor:
        """The size of a step, one per problem.

        Args:
            problem: the problem.
            params: where the step starts.
            loss, gradient: of the smooth part there.
            size: size to try first, one per problem.
            reach: maps parameters, gradient and size to where the step ends.
        """
        loss, params, gradient = loss.detach(), trees.detach(params), trees.detach(gradient)
        # Near the minimum the bound is lost in rounding; the size found before is right there.
        slack = 10 * torch.finfo(loss.dtype).eps * loss.abs()
        for _ in range(self.trials - 1):
            reached = reach(params, gradient, size)
            change = trees.tree_map(torch.sub, reached, params)
            square = problem.problem.dot(change, change)
            bound = loss + problem.dot(gradient, change) + square / (2 * size)
            bounded = problem.problem.loss(reached) <= bound + slack
            if not transforming() and bool(bounded.all()):
                break
            size = torch.where(bounded, size, self.shrink * size)
        return size
