"""Regularised logistic regression."""

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.problems.base import Problem
from innerloop.problems.checks import check_regularization
from innerloop.problems.linear import LinearLeastSquares, check_matrix, check_samples


class LogisticRegression(Problem):
    """Regularised logistic regression, one independent binary classifier per output.

    The objective, for a weight matrix p, rows of features x_i, labels y_i and weights w_i, is

        Σ_i w_i · BCE(p x_i, y_i) + ½ λ |p|²

    Args:
        features: x, shape (*batch, N, C), N samples of C channels; floating point.
        labels: y, shape (*batch, N, D), between 0 and 1, same dtype and device.
        weights: w, shape (*batch, N) for one weight per sample, or (*batch, N, D); not negative.
            Default: one.
        regularization: λ, not negative; a float, or a tensor of shape () or (*batch). Default 0.

    The parameters have shape (*batch, D, C), as the weight of `torch.nn.Linear`.

    Raises:
        ValueError: a shape, dtype, device or value does not fit; the message names the argument.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        regularization: float | Tensor = 0.0,
    ) -> None:
        check_samples(features, labels, weights)
        self.features = features
        self.labels = labels
        self.batch_shape = features.shape[:-2]
        if weights is not None and weights.ndim == features.ndim - 1:
            weights = weights[..., None]
        self.weights = weights
        self.regularization = check_regularization(regularization, self.batch_shape, features)

    def check(self, params: Tensor) -> None:
        check_matrix(params, self.features, self.labels)

    def loss(self, params: Tensor) -> Tensor:
        logits = self.features @ params.mT
        entropy = F.binary_cross_entropy_with_logits(logits, self.labels, reduction="none")
        if self.weights is not None:
            entropy = self.weights * entropy
        decay = 0.5 * self.regularization * self.dot(params, params)
        return entropy.flatten(len(self.batch_shape)).sum(-1) + decay

    def reweighted(self, params: Tensor) -> LinearLeastSquares:
        """The least-squares problem whose minimum is the Newton step from `params`.

        Source:
            Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019,
            section 3.3.
        """
        logits = self.features @ params.mT
        probability = logits.sigmoid()
        # For a saturated sample the variance is zero, and the working target infinite.
        variance = (probability * (1 - probability)).clamp(min=torch.finfo(logits.dtype).eps)
        targets = logits + (self.labels - probability) / variance
        if self.weights is not None:
            variance = self.weights * variance
        # The square root has no derivative at zero, where the weight is zero.
        empty = variance == 0
        weights = torch.where(empty, 0.0, torch.where(empty, 1.0, variance).sqrt())
        return LinearLeastSquares(self.features, targets, weights, self.regularization)
