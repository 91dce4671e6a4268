"""Problems: what an inner solver minimises."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F


class Problem(ABC):
    """A batch of independent least-squares problems, linear in their parameters.

    Every problem is ½ |r(params)|² for a residual r. Solvers see it through its *prediction* (the
    linear part A params): a solver that knows how the prediction moves need not recompute it.
    """

    batch_shape: torch.Size
    """Leading dimensions of the parameters, each entry a problem of its own."""

    @abstractmethod
    def check(self, params: Tensor) -> None:
        """Raise ValueError if `params` do not fit this problem."""

    @abstractmethod
    def predict(self, params: Tensor) -> Tensor:
        """Apply the linear map A to `params`, or to a direction in parameter space."""

    @abstractmethod
    def loss(self, params: Tensor, prediction: Tensor | None = None) -> Tensor:
        """Value of the objective per problem, shape `batch_shape`."""

    @abstractmethod
    def gradient(self, params: Tensor, prediction: Tensor) -> Tensor:
        """Gradient of the objective at `params`, where `prediction = predict(params)`."""

    @abstractmethod
    def curvature(self, direction: Tensor, response: Tensor) -> Tensor:
        """Second derivative of the objective along `direction`, shape `batch_shape`.

        `response` is `predict(direction)`.
        """

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product of two parameter-like tensors per problem, shape `batch_shape`."""
        return (a * b).flatten(len(self.batch_shape)).sum(-1)

    def per_problem(self, values: Tensor, params: Tensor) -> Tensor:
        """Append axes to `values` (shape `batch_shape`) until they broadcast over `params`."""
        return values.reshape(*values.shape, *(1,) * (params.ndim - values.ndim))


class ConvLeastSquares(Problem):
    """Weighted, regularised least squares for the filter of a convolution over several frames.

    The objective, for a filter τ, features x, targets E and weights W, is

        ½ Σ_t |W_t · (x_t * τ − E_t)|² + ½ λ |τ|²

    where * is cross-correlation with stride 1 and zero padding K // 2. The weights stand inside the
    norm, so they enter the objective squared. Leading batch dimensions are independent problems.

    Args:
        features: x, shape (*batch, N, C, H, W), N frames of C channels; floating point.
        targets: E, shape (*batch, N, D, H, W), same dtype and device as `features`.
        weights: W, shape (*batch, N) for one weight a frame, or (*batch, N, D, H, W), whose D may
            be 1. Default: one.
        regularization: λ, not negative; a float, or a tensor of shape () or (*batch). Default 0.

    Raises:
        ValueError: a shape, dtype, device or value does not fit; the message names the argument.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, eq. 3.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        regularization: float | Tensor = 0.0,
    ) -> None:
        _check_data(features, targets, weights)
        self.features = features
        self.targets = targets
        self.batch_shape = features.shape[:-4]
        if weights is not None and weights.ndim == features.ndim - 3:
            weights = weights[..., None, None, None]
        self.weights = weights
        self.regularization = self._check_regularization(regularization)
        self._pixels = features.flatten(-2)

    def check(self, params: Tensor) -> None:
        *batch, _, channels, _, _ = self.features.shape
        outputs = self.targets.shape[-3]
        expected = f"(*batch, D, C, K, K) = ({[*batch, outputs, channels]}, K, K) with an odd K"
        fits = (
            list(params.shape[:-2]) == [*batch, outputs, channels]
            and params.shape[-1] == params.shape[-2]
            and params.shape[-1] % 2 == 1
        )
        if not fits:
            raise ValueError(f"init: shape {tuple(params.shape)}, should be {expected}")
        if params.dtype != self.features.dtype or params.device != self.features.device:
            raise ValueError(
                f"init: {params.dtype} on {params.device}, should be {self.features.dtype} on "
                f"{self.features.device} like the features"
            )

    def predict(self, params: Tensor) -> Tensor:
        # One matrix product per frame for all K² taps, whose few output channels are then shifted
        # into place: for D << C this reads the features once, where a convolution reads them K²
        # times (7 times faster at C=448, D=1, K=3, and no slower at D=16).
        *batch, outputs, channels, kernel, _ = params.shape
        frames, (height, width) = self.features.shape[-4], self.features.shape[-2:]
        taps = params.flip(-2, -1).movedim(-3, -1).reshape(*batch, 1, -1, channels)
        responses = (taps @ self._pixels).reshape(-1, outputs * kernel**2, height * width)
        prediction = F.fold(responses, (height, width), kernel, padding=kernel // 2)
        return prediction.reshape(*batch, frames, outputs, height, width)

    def transpose(self, residual: Tensor, kernel: int) -> Tensor:
        """Apply the adjoint of `predict`: correlate the features with a residual.

        Args:
            residual: shape (*batch, N, D, H, W).
            kernel: K, odd, in pixels.

        Returns:
            Shape (*batch, D, C, K, K).
        """
        *batch, frames, outputs, height, width = residual.shape
        channels = self.features.shape[-3]
        shifted = F.unfold(
            residual.reshape(-1, outputs, height, width), kernel, padding=kernel // 2
        ).reshape(*batch, frames, outputs * kernel**2, height * width)
        taps = (shifted @ self._pixels.mT).sum(-3)
        taps = taps.reshape(*batch, outputs, kernel, kernel, channels)
        return taps.movedim(-1, -3).flip(-2, -1)

    def loss(self, params: Tensor, prediction: Tensor | None = None) -> Tensor:
        if prediction is None:
            prediction = self.predict(params)
        residual = prediction - self.targets
        return 0.5 * self._weighted_square(residual) + 0.5 * self.regularization * self.dot(
            params, params
        )

    def gradient(self, params: Tensor, prediction: Tensor) -> Tensor:
        residual = prediction - self.targets
        if self.weights is not None:
            residual = self.weights.square() * residual
        decay = self.per_problem(self.regularization, params) * params
        return self.transpose(residual, params.shape[-1]) + decay

    def curvature(self, direction: Tensor, response: Tensor) -> Tensor:
        square = self.dot(direction, direction)
        return self._weighted_square(response) + self.regularization * square

    def _weighted_square(self, residual: Tensor) -> Tensor:
        if self.weights is not None:
            residual = self.weights * residual
        return residual.square().flatten(len(self.batch_shape)).sum(-1)

    def _check_regularization(self, regularization: float | Tensor) -> Tensor:
        value = torch.as_tensor(
            regularization, dtype=self.features.dtype, device=self.features.device
        )
        if value.ndim and value.shape != self.batch_shape:
            raise ValueError(
                f"regularization: shape {tuple(value.shape)}, should be () or the batch shape "
                f"{tuple(self.batch_shape)}"
            )
        if not torch.compiler.is_compiling() and not bool((value.detach() >= 0).all()):
            raise ValueError(f"regularization: {regularization}, should not be negative or NaN")
        return value


def _check_data(features: Tensor, targets: Tensor, weights: Tensor | None) -> None:
    if features.ndim < 4:
        raise ValueError(f"features: shape {tuple(features.shape)}, should be (*batch, N, C, H, W)")
    if not features.is_floating_point():
        raise ValueError(f"features: {features.dtype}, should be a floating-point tensor")
    *batch, frames, _, height, width = features.shape
    if targets.ndim != features.ndim or [
        *targets.shape[:-3],
        *targets.shape[-2:],
    ] != [*batch, frames, height, width]:
        raise ValueError(
            f"targets: shape {tuple(targets.shape)}, should be (*batch, N, D, H, W) with "
            f"everything but D as in the features, {tuple(features.shape)}"
        )
    if weights is not None:
        per_frame = [*batch, frames]
        per_pixel = [[*per_frame, d, height, width] for d in (1, targets.shape[-3])]
        if list(weights.shape) not in [per_frame, *per_pixel]:
            raise ValueError(
                f"weights: shape {tuple(weights.shape)}, should be (*batch, N) = "
                f"{tuple(per_frame)} or (*batch, N, D, H, W) = {tuple(per_pixel[1])}"
            )
    for name, tensor in (("targets", targets), ("weights", weights)):
        if tensor is not None and (
            tensor.dtype != features.dtype or tensor.device != features.device
        ):
            raise ValueError(
                f"{name}: {tensor.dtype} on {tensor.device}, should be {features.dtype} on "
                f"{features.device} like the features"
            )
