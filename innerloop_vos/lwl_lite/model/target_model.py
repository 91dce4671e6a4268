"""The target model: filters in closed form, from the sufficient statistics of all that was seen."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop as il
from innerloop_vos.lwl_lite.model.features import KERNEL

_REGULARIZATION = 3e-4
"""Start of λ per feature pixel, for patches of norm 1."""


class TargetModel(nn.Module):
    """Filters that map the features of a frame to the labels of its mask.

    Args:
        solver: inner solver. Default: `il.Ridge()`, the exact one.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, eq. 3, with weights that all labels share.
    """

    def __init__(self, solver: il.Solver | None = None) -> None:
        super().__init__()
        self.solver = solver or il.Ridge()
        self.log_regularization = nn.Parameter(torch.tensor(math.log(_REGULARIZATION)))

    def statistics(self, features: Tensor, labels: Tensor, weights: Tensor) -> il.Statistics:
        """What is to be remembered of a frame.

        Args:
            features: shape (B, C, h, w).
            labels: shape (B, D, h, w).
            weights: shape (B, 1, h, w).

        Returns:
            Statistics of B problems, per pixel, so that frames of any size count alike.
        """
        parts = (part[:, None] for part in (features, labels, weights))
        found = il.Statistics.conv(*parts, kernel=KERNEL)
        return found.scaled(1 / math.prod(features.shape[-2:]))

    def fit(self, statistics: il.Statistics, adjoint: il.Adjoint | None = None) -> Tensor:
        """Find the filters.

        Args:
            statistics: of B problems.
            adjoint: how gradients come back. Default: `il.Unroll()`.

        Returns:
            Shape (B, D, C, K, K).
        """
        problem = il.NormalEquations(statistics, self.log_regularization.exp())
        start = torch.zeros_like(statistics.moment)
        filters: Tensor = il.solve(problem, start, self.solver, steps=20, adjoint=adjoint).value
        return filters

    def score(self, filters: Tensor, features: Tensor) -> Tensor:
        """Apply filters (B, D, C, K, K) to features (B or 1, C, h, w).

        Returns:
            Target scores, shape (B, D, h, w).
        """
        count, padding = len(filters), KERNEL // 2
        if len(features) == 1:  # a frame that all objects share
            scores = F.conv2d(features, filters.flatten(0, 1), padding=padding)
        else:
            joined = features.reshape(1, -1, *features.shape[-2:])
            scores = F.conv2d(joined, filters.flatten(0, 1), padding=padding, groups=count)
        return scores.reshape(count, -1, *features.shape[-2:])
