"""Gaussians of diagonal covariance that softly assigned samples are most likely of."""

import math

import torch
from torch import Tensor

from innerloop._autodiff import transforming
from innerloop.problems.base import Problem
from innerloop.problems.checks import check_parameter, named
from innerloop.problems.moments import Moments
from innerloop.problems.sums import check_like

_NAMES = ("mean", "log_variance")


class GaussianMixture(Problem):
    """Gaussians of diagonal covariance, one per component, fitted to softly assigned samples.

    The objective is the negative log-likelihood, of parameters μ and σ² per component and channel,

        ½ Σ_k Σ_p α_pk Σ_c ( ((x_pc − μ_kc)² + r_kc) / σ²_kc + log(2π σ²_kc) )

    where the regularisers r keep variances from zero. `MaximumLikelihood` solves it in closed form.
    In turns with `responsibilities`, as assignments of the next round, that is
    expectation-maximisation.

    Args:
        moments: of the samples x with their assignments α.
        regularization: r, not negative; a float, or a tensor that broadcasts to (*batch, K, C).
            Default 0.

    The parameters are a dict of `mean`, μ, and `log_variance`, log σ², both of shape
    (*batch, K, C); any number is a log-variance, so that every solver takes them.

    Raises:
        TypeError, ValueError: an argument is of another kind, or the regularization has another
            shape or is negative; the message names the argument.

    Source:
        Johnander et al., A Generative Appearance Model for End-to-end Video Object Segmentation,
        CVPR 2019 (update of the appearance model).
    """

    def __init__(self, moments: Moments, regularization: float | Tensor = 0.0) -> None:
        if not isinstance(moments, Moments):
            raise TypeError(f"moments: {named(moments)}, should be Moments")
        self.moments = moments
        self.batch_shape = moments.batch_shape
        self.regularization = _checked(regularization, moments.mean)

    def check(self, params: dict[str, Tensor]) -> None:
        if not isinstance(params, dict) or set(params) != set(_NAMES):
            found = sorted(map(str, params)) if isinstance(params, dict) else named(params)
            raise ValueError(f"init: {found}, should be a dict of mean and log_variance")
        like = self.moments.mean
        for name, tensor in params.items():
            where = f"init[{name!r}]"
            check_parameter(where, tensor)
            if tensor.shape != like.shape:
                raise ValueError(
                    f"{where}: shape {tuple(tensor.shape)}, should be {tuple(like.shape)} like the "
                    "mean of the moments"
                )
            check_like(where, tensor, "the moments", like)

    def start(self) -> dict[str, Tensor]:
        """Parameters to start from: standard normal components."""
        return {name: torch.zeros_like(self.moments.mean) for name in _NAMES}

    def loss(self, params: dict[str, Tensor]) -> Tensor:
        moments, log_variance = self.moments, params["log_variance"]
        weight = moments.weight[..., None]
        away = (moments.mean - params["mean"]).square() + self.regularization
        squares = moments.scatter + weight * away
        each = squares * (-log_variance).exp() + weight * (log_variance + math.log(2 * math.pi))
        return 0.5 * each.sum((-2, -1))

    def most_likely(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The minimum; components without samples stay as they are in `params`."""
        moments = self.moments
        there = moments.weight[..., None] > 0
        weight = torch.where(there, moments.weight[..., None], 1.0)
        variance = moments.scatter / weight + self.regularization
        variance = torch.where(there, variance, 1.0)
        return {
            "mean": torch.where(there, moments.mean, params["mean"]),
            "log_variance": torch.where(there, variance.log(), params["log_variance"]),
        }

    @staticmethod
    def log_densities(params: dict[str, Tensor], samples: Tensor) -> Tensor:
        """The log-density of samples under each component.

        Args:
            params: of this problem, or a solution, each of shape (*batch, K, C).
            samples: x, shape (*batch, N, C).

        Returns:
            log N(x; μ, σ²), shape (*batch, N, K).
        """
        mean, log_variance = params["mean"], params["log_variance"]
        volume = (log_variance + math.log(2 * math.pi)).sum(-1)
        precision = (-log_variance).exp()
        # One component after the other: all at once would need K times the samples' memory.
        squares = [
            ((samples - middle[..., None, :]).square() @ scale[..., None])[..., 0]
            for middle, scale in zip(mean.unbind(-2), precision.unbind(-2), strict=True)
        ]
        return -0.5 * (torch.stack(squares, dim=-1) + volume[..., None, :])

    @staticmethod
    def responsibilities(
        params: dict[str, Tensor], samples: Tensor, prior: Tensor | None = None
    ) -> Tensor:
        """The probability that a sample is of each component.

        Args:
            params, samples: as of `log_densities`.
            prior: probability of each component, shape (*batch, K). Default: all alike.

        Returns:
            Shape (*batch, N, K), summing to 1 over the components.
        """
        logits = GaussianMixture.log_densities(params, samples)
        if prior is not None:
            logits = logits + prior.log()[..., None, :]
        return logits.softmax(-1)


def _checked(regularization: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(regularization, bool) or not isinstance(regularization, int | float | Tensor):
        raise TypeError(f"regularization: {named(regularization)}, should be a number or a tensor")
    value = torch.as_tensor(regularization, dtype=like.dtype, device=like.device)
    try:
        value.expand(like.shape)
    except RuntimeError as error:
        raise ValueError(
            f"regularization: shape {tuple(value.shape)}, should broadcast to (*batch, K, C) = "
            f"{tuple(like.shape)}"
        ) from error
    if not transforming() and not bool((value.detach() >= 0).all()):
        raise ValueError(f"regularization: {regularization}, should not be negative or NaN")
    return value
