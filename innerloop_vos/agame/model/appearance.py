"""The appearance model: Gaussians of object and background, in closed form."""

import math

import torch
from torch import Tensor, nn

import innerloop as il

Gaussians = dict[str, Tensor]
"""Parameters of an `il.GaussianMixture`: `mean` and `log_variance`, shape (B, K, C)."""

_REGULARIZATION = 0.1
"""Start of the regularisers r, for features of variance 1."""


class AppearanceModel(nn.Module):
    """A generative model of what the features of an object and of the background look like.

    Two base components model the background (0) and the object (1). Two more model what these take
    for the wrong class: background that looks like the object (2), and the reverse (3).

    Args:
        channels: C of the features.
        components: K, 4, or 2 for the base components alone.

    Source:
        Johnander et al., A Generative Appearance Model for End-to-end Video Object Segmentation,
        CVPR 2019, section 3.2.
    """

    def __init__(self, channels: int, components: int = 4) -> None:
        super().__init__()
        self.components = components
        start = torch.full((components, channels), math.log(_REGULARIZATION))
        self.log_regularization = nn.Parameter(start)

    def start(self, features: Tensor, masks: Tensor) -> Gaussians:
        """Fit the model to first frames.

        Args:
            features: shape (B, C, h, w).
            masks: share of the object in each pixel, 0 to 1, shape (B, h, w).
        """
        samples = _rows(features)
        base = il.Moments.of(samples, _shares(masks))
        found = _solve(base, self.log_regularization[:2])
        if self.components == 2:
            return found
        # What the base components take for the right class leaves the others none: they are alike.
        missed = il.Moments.of(samples, _missed(found, samples, masks))
        return _joined(found, _solve(missed, self.log_regularization[2:], found))

    def update(
        self, gaussians: Gaussians, features: Tensor, masks: Tensor, rate: float | Tensor
    ) -> Gaussians:
        """Move the model towards what fits later frames.

        Args:
            gaussians: the model so far.
            features, masks: as of `start`.
            rate: λ, 0 to 1, a float or one per frame, shape (B).
        """
        samples = _rows(features)
        old = {name: part[:, :2] for name, part in gaussians.items()}
        base = il.Moments.of(samples, _shares(masks))
        found = _mixed(old, _solve(base, self.log_regularization[:2], old), rate)
        if self.components == 2:
            return found
        old = {name: part[:, 2:] for name, part in gaussians.items()}
        missed = il.Moments.of(samples, _missed(found, samples, masks))
        more = _mixed(old, _solve(missed, self.log_regularization[2:], old), rate)
        return _joined(found, more)

    def scores(self, gaussians: Gaussians, features: Tensor) -> Tensor:
        """Compare features with the components.

        Args:
            gaussians: the models of B objects.
            features: of B frames, or one that all objects share, shape (B or 1, C, h, w).

        Returns:
            Log-probability of each component, at the temperature √C, shape (B, K, h, w).
        """
        count, channels = len(gaussians["mean"]), features.shape[1]
        samples = _rows(features).expand(count, -1, -1)
        logits = il.GaussianMixture.log_densities(gaussians, samples) / math.sqrt(channels)
        return logits.log_softmax(-1).mT.reshape(count, -1, *features.shape[-2:])


def _solve(
    moments: il.Moments, log_regularization: Tensor, start: Gaussians | None = None
) -> Gaussians:
    """The most likely components; those without samples stay as they are in `start`."""
    problem = il.GaussianMixture(moments, log_regularization.exp())
    found: Gaussians = il.solve(problem, start or problem.start(), il.MaximumLikelihood()).value
    return found


def _rows(features: Tensor) -> Tensor:
    return features.flatten(2).mT


def _shares(masks: Tensor) -> Tensor:
    """Assignments (B, N, 2) to background and object."""
    inside = masks.flatten(1)
    return torch.stack([1 - inside, inside], dim=-1)


def _missed(base: Gaussians, samples: Tensor, masks: Tensor) -> Tensor:
    """What the base components take for less than it is, shape (B, N, 2)."""
    posterior = il.GaussianMixture.responsibilities(base, samples)
    return (_shares(masks) - posterior).clamp(min=0)


def _mixed(old: Gaussians, new: Gaussians, rate: float | Tensor) -> Gaussians:
    """The average of means and of variances, in which the new ones have the share `rate`."""
    share = torch.as_tensor(rate, dtype=new["mean"].dtype).to(new["mean"].device)
    share = share.reshape(-1, 1, 1)
    variances = (old["log_variance"].exp(), new["log_variance"].exp())
    return {
        "mean": old["mean"].lerp(new["mean"], share),
        "log_variance": variances[0].lerp(variances[1], share).log(),
    }


def _joined(base: Gaussians, more: Gaussians) -> Gaussians:
    return {name: torch.cat([part, more[name]], dim=1) for name, part in base.items()}
