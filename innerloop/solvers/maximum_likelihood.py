"""Gaussians in closed form."""

import torch
from torch import Tensor

from innerloop.problems.gaussian_mixture import GaussianMixture
from innerloop.solvers.base import Solver, StepStats, report


class MaximumLikelihood(Solver):
    """Direct solver of `GaussianMixture`: each component has its samples' mean and variance.

    A component without samples stays where it starts. One whose variance is zero, which a positive
    regularization rules out, has no maximum; the status says so.

    Source:
        Johnander et al., A Generative Appearance Model for End-to-end Video Object Segmentation,
        CVPR 2019 (update of the appearance model).
    """

    direct = True
    solves = GaussianMixture

    def init(self, problem: GaussianMixture, params: dict[str, Tensor]) -> None:
        return None

    def step(
        self, problem: GaussianMixture, params: dict[str, Tensor], state: None
    ) -> tuple[dict[str, Tensor], None, StepStats]:
        loss, gradient = problem.value_and_gradient(params)
        solution = problem.most_likely(params)
        return solution, None, report(problem, loss, gradient, torch.ones_like(loss))
