"""Linear least squares: the common part, and the problem of a matrix."""

from abc import abstractmethod

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator, transforming
from innerloop.maps.weighting import square_weighted, weighted_square
from innerloop.problems.base import ClosedFormProblem
from innerloop.problems.checks import (
    check_alike,
    check_not_empty,
    check_parameter,
    check_regularization,
)


class RidgeProblem(ClosedFormProblem):
    """Weighted, regularised linear least squares ½ |W (A p − E)|² + ½ λ |p|² for a tensor p.

    The prediction A p has the shape of the targets; the weights W multiply its entries.
    """

    targets: Tensor
    weights: Tensor | None
    """Broadcasts over the targets."""
    regularization: Tensor

    def __init__(self, targets: Tensor, weights: Tensor | None, regularization: Tensor) -> None:
        self.targets = targets
        self.weights = weights
        self.regularization = regularization

    @abstractmethod
    def predict(self, params: Tensor) -> Tensor:
        """Apply the linear map A to `params`, or to a direction in parameter space."""

    @abstractmethod
    def transpose(self, residual: Tensor, like: Tensor) -> Tensor:
        """Apply A' to a tensor shaped like the targets; the result is shaped like `like`."""

    @abstractmethod
    def design(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The problem as a matrix, for the closed form.

        Args:
            like: a tensor shaped like the parameters.

        Returns:
            W A, shape (*batch, D or 1, rows, columns), 1 where the D outputs share their weights;
            and W E, shape (*batch, D, rows, 1). The solution, shape (*batch, D, columns, 1),
            reshapes to the parameters.
        """

    def normal_equations(self, like: Tensor) -> tuple[Tensor, Tensor]:
        matrix, targets = self.design(like)
        return matrix.mT @ matrix, matrix.mT @ targets

    def loss(self, params: Tensor, prediction: Tensor | None = None) -> Tensor:
        if prediction is None:
            prediction = self.predict(params)
        square = self.regularization * self.dot(params, params)
        return 0.5 * self.weighted_square(prediction - self.targets) + 0.5 * square

    def gradient(self, params: Tensor, prediction: Tensor) -> Tensor:
        """Gradient of the objective at `params`, where `prediction = predict(params)`."""
        return self._normal(prediction - self.targets, params)

    def evaluate(self, params: Tensor, prediction: Tensor | None) -> tuple[Tensor, Tensor]:
        assert prediction is not None
        return self.loss(params, prediction), self.gradient(params, prediction)

    def respond(self, params: Tensor, direction: Tensor) -> Tensor:
        return self.predict(direction)

    def curvature(
        self, direction: Tensor, response: Tensor, square: Tensor | None = None
    ) -> Tensor:
        if square is None:
            square = self.dot(direction, direction)
        return self.weighted_square(response) + self.regularization * square

    def gauss_newton_operator(self, params: Tensor) -> Operator:
        return lambda direction: self._normal(self.predict(direction), direction)

    def dual_gram(self, like: Tensor, steps: int) -> Tensor | None:
        """A A' of one output, shape (*batch, rows, rows), if it makes so many steps cheaper, else
        None.

        Args:
            like: a tensor shaped like the parameters.
            steps: how many steps along gradients will be taken.
        """
        return None

    @abstractmethod
    def samples(self, params: Tensor, prediction: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """A few entries of a prediction with the values that A gives them.

        Returns:
            Per sample, rows of A as (*batch, 1 or D, columns), the parameters as (*batch, D,
            columns), and the prediction as (*batch, D).
        """

    def check_prediction(self, prediction: Tensor, params: Tensor) -> None:
        """Raise ValueError unless a few entries are what the problem predicts at `params`."""
        expected = self.targets.shape
        if not isinstance(prediction, Tensor) or prediction.shape != expected:
            found = getattr(prediction, "shape", type(prediction).__name__)
            raise ValueError(
                f"state: its prediction is {found}, should be of shape {tuple(expected)}: it is "
                "from a solve of another problem"
            )
        check_alike(params, prediction=prediction)
        if transforming():
            return
        with torch.no_grad():
            wrong = [
                _differs(found, rows * values)
                for rows, values, found in self.samples(params, prediction)
            ]
            if bool(torch.stack(wrong).any()):
                raise ValueError(
                    "state: its prediction is not what the problem predicts at `init`, and should "
                    "be; it is from another problem, or from other parameters"
                )

    def _normal(self, residual: Tensor, params: Tensor) -> Tensor:
        """A' W² residual + λ params."""
        pulled = self.transpose_weighed(residual, params)
        return trees.add_scaled(pulled, self.regularization, params)  # type: ignore[no-any-return]

    def transpose_weighed(self, residual: Tensor, like: Tensor) -> Tensor:
        """Apply A' W², as `transpose` applies A'."""
        if self.weights is not None:
            residual = square_weighted(self.weights, residual)
        return self.transpose(residual, like)

    def weighted_square(self, residual: Tensor) -> Tensor:
        """|W residual|² per problem."""
        if self.weights is None:
            square = residual.square()
        else:
            square = weighted_square(self.weights, residual)
        return square.flatten(len(self.batch_shape)).sum(-1)


class LinearLeastSquares(RidgeProblem):
    """Weighted, regularised least squares for a linear layer without bias.

    The objective, for a weight matrix p, rows of features x_i, targets E_i and weights W_i, is

        ½ Σ_i |W_i · (p x_i − E_i)|² + ½ λ |p|²

    A column of ones among the features gives a bias (regularised like the rest).

    Args:
        features: x, shape (*batch, N, C), N samples of C channels; floating point.
        targets: E, shape (*batch, N, D), same dtype and device.
        weights: W, shape (*batch, N) for one weight per sample, or (*batch, N, D). Default: one.
        regularization: λ, not negative; a float, or a tensor of shape () or (*batch). Default 0.

    The parameters have shape (*batch, D, C), as the weight of `torch.nn.Linear`.

    Raises:
        ValueError: a shape, dtype, device or value does not fit; the message names the argument.

    Source:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019, eq. 4.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        regularization: float | Tensor = 0.0,
    ) -> None:
        check_samples(features, targets, weights)
        self.features = features
        self.batch_shape = features.shape[:-2]
        if weights is not None and weights.ndim == features.ndim - 1:
            weights = weights[..., None]
        decay = check_regularization(regularization, self.batch_shape, features)
        super().__init__(targets, weights, decay)

    def check(self, params: Tensor) -> None:
        check_matrix(params, self.features, self.targets)

    def predict(self, params: Tensor) -> Tensor:
        return self.features @ params.mT

    def samples(self, params: Tensor, prediction: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [
            (self.features[..., at, None, :], params, prediction[..., at, :])
            for at in spread(self.features.shape[-2])
        ]

    def transpose(self, residual: Tensor, like: Tensor) -> Tensor:
        return residual.mT @ self.features

    def design(self, like: Tensor) -> tuple[Tensor, Tensor]:
        matrix, targets = self.features.unsqueeze(-3), self.targets.mT.unsqueeze(-1)
        if self.weights is not None:
            weights = self.weights.mT.unsqueeze(-1)
            matrix, targets = weights * matrix, weights * targets
        return matrix, targets


def spread(count: int) -> set[int]:
    """The first, a middle and the last of so many indices."""
    return {0, count // 2, count - 1}


def _differs(found: Tensor, products: Tensor) -> Tensor:
    """Whether entries differ from sums of products by more than the rounding of many steps.

    Values that are not finite are left for the solve to report.
    """
    products = products.double()
    rounding = torch.finfo(found.dtype).eps ** 0.5
    allowed = rounding * (products.abs().sum(-1) + found.abs())
    return torch.any((found - products.sum(-1)).abs() > allowed)


def check_samples(features: Tensor, targets: Tensor, weights: Tensor | None) -> None:
    """Raise ValueError unless the data of a linear layer fit together."""
    if features.ndim < 2:
        raise ValueError(f"features: shape {tuple(features.shape)}, should be (*batch, N, C)")
    if targets.ndim != features.ndim or targets.shape[:-1] != features.shape[:-1]:
        raise ValueError(
            f"targets: shape {tuple(targets.shape)}, should be (*batch, N, D) with everything but "
            f"D as in the features, {tuple(features.shape)}"
        )
    if weights is not None and weights.shape not in (features.shape[:-1], targets.shape):
        raise ValueError(
            f"weights: shape {tuple(weights.shape)}, should be (*batch, N) = "
            f"{tuple(features.shape[:-1])} or (*batch, N, D) = {tuple(targets.shape)}"
        )
    check_alike(features, targets=targets, weights=weights)
    check_not_empty(features.ndim - 2, features=features, targets=targets)


def check_matrix(params: Tensor, features: Tensor, targets: Tensor) -> None:
    """Raise TypeError or ValueError unless `params` are the weight of a linear layer."""
    check_parameter("init", params)
    expected = torch.Size([*features.shape[:-2], targets.shape[-1], features.shape[-1]])
    if params.shape != expected:
        raise ValueError(
            f"init: shape {tuple(params.shape)}, should be (*batch, D, C) = {tuple(expected)}"
        )
    check_alike(features, init=params)
