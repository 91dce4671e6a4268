"""The moments of softly assigned samples: what Gaussians need to know of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import transforming
from innerloop.problems.checks import check_parameter
from innerloop.problems.sums import Sums, check_like


@dataclass(frozen=True, eq=False)
class Moments(Sums):
    """What Gaussians of diagonal covariance need to know of their samples.

    Each of N samples x, of C channels, belongs to each of K components by a share α. The moments of
    several sets of samples are added, and the best Gaussians (`GaussianMixture`) are then those of
    all samples together, which need not be kept. Squares are taken about the mean, so that nothing
    is lost where the mean is far from zero.

    Args:
        weight: Σ α, shape (*batch, K); not negative; floating point.
        mean: Σ α x / Σ α, shape (*batch, K, C), which counts for nothing where the weight is zero;
            same dtype and device.
        scatter: Σ α (x − mean)², shape (*batch, K, C); same dtype and device.

    Raises:
        TypeError, ValueError: a shape, dtype or device does not fit; the message names the
            argument.

    Source:
        Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances, 1979, eq. 2.1 (their sum).
    """

    weight: Tensor
    mean: Tensor
    scatter: Tensor

    def __post_init__(self) -> None:
        for name, tensor in self.state_dict().items():
            check_parameter(name, tensor)
        if self.weight.ndim < 1:
            raise ValueError(f"weight: shape {tuple(self.weight.shape)}, should be (*batch, K)")
        for name in ("mean", "scatter"):
            tensor = getattr(self, name)
            if tensor.ndim < 2 or tensor.shape[:-1] != self.weight.shape:
                raise ValueError(
                    f"{name}: shape {tuple(tensor.shape)}, should be (*batch, K, C), where `weight`"
                    f" has (*batch, K) = {tuple(self.weight.shape)}"
                )
            check_like(name, tensor, "weight", self.weight)
        if self.scatter.shape != self.mean.shape:
            raise ValueError(
                f"scatter: shape {tuple(self.scatter.shape)}, should be {tuple(self.mean.shape)} "
                "like `mean`"
            )

    @classmethod
    def of(cls, samples: Tensor, assignments: Tensor) -> "Moments":
        """The moments of samples.

        Args:
            samples: x, shape (*batch, N, C); floating point.
            assignments: α, shape (*batch, N, K), not negative, the same dtype and device; those of
                a sample need not sum to 1.

        Raises:
            TypeError, ValueError: a shape, dtype, device or value does not fit; the message names
                the argument.
        """
        _check_samples(samples, assignments)
        # Sums that grow for long must not be rounded more than their terms.
        with torch.autocast(samples.device.type, enabled=False):
            weight = assignments.sum(-2)
            mean = _quotient(assignments.mT @ samples, weight[..., None])
            # One component after the other: all at once would need K times the samples' memory.
            scatter = [
                (share[..., None, :] @ (samples - middle[..., None, :]).square())[..., 0, :]
                for share, middle in zip(assignments.unbind(-1), mean.unbind(-2), strict=True)
            ]
        return cls(weight, mean, torch.stack(scatter, dim=-2))

    @property
    def batch_shape(self) -> torch.Size:
        """Leading dimensions; each entry is an independent problem."""
        return self.weight.shape[:-1]

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of the samples of both."""
        self._check_fits("other", other)
        weight = self.weight + other.weight
        share = _quotient(other.weight, weight)[..., None]
        apart = other.mean - self.mean
        between = self.weight[..., None] * share * apart.square()
        return Moments(weight, self.mean + share * apart, self.scatter + other.scatter + between)

    def _times(self, factor: Tensor) -> "Moments":
        return Moments(
            trees.scale(factor, self.weight), self.mean, trees.scale(factor, self.scatter)
        )

    def _check_same(self, name: str, other: "Moments") -> None:
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"{name}: of components {tuple(other.mean.shape)}, should be of components "
                f"{tuple(self.mean.shape)}"
            )


def _quotient(numerator: Tensor, weight: Tensor) -> Tensor:
    """Quotient that is zero where the weight is."""
    return numerator / torch.where(weight > 0, weight, 1.0)


def _check_samples(samples: Tensor, assignments: Tensor) -> None:
    for name, tensor in (("samples", samples), ("assignments", assignments)):
        check_parameter(name, tensor)
    if samples.ndim < 2:
        raise ValueError(f"samples: shape {tuple(samples.shape)}, should be (*batch, N, C)")
    if assignments.ndim != samples.ndim or assignments.shape[:-1] != samples.shape[:-1]:
        raise ValueError(
            f"assignments: shape {tuple(assignments.shape)}, should be (*batch, N, K), where "
            f"`samples` has (*batch, N) = {tuple(samples.shape[:-1])}"
        )
    if 0 in (samples.shape[-1], assignments.shape[-1]):
        name = "samples" if samples.shape[-1] == 0 else "assignments"
        raise ValueError(f"{name}: no channels, should have at least one")
    check_like("assignments", assignments, "samples", samples)
    if not transforming() and bool((assignments < 0).any()):
        least = float(assignments.detach().min())
        raise ValueError(f"assignments: {least} among them, should not be negative")
