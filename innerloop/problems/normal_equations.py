"""Least squares of samples of which only the statistics are known."""

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator
from innerloop.maps.inverse import factorable
from innerloop.problems.base import ClosedFormProblem, Quadratic
from innerloop.problems.checks import check_parameter, check_regularization, named
from innerloop.problems.statistics import Statistics
from innerloop.trees import Tree


class NormalEquations(Quadratic, ClosedFormProblem):
    """Weighted, regularised least squares of samples that are known by their `Statistics`.

    The objective is that of `LinearLeastSquares` and `ConvLeastSquares`, ½ Σ |w (x p − e)|² +
    ½ λ |p|², at a cost that does not depend on the number of samples. `Ridge` solves it with one
    Cholesky factor for all outputs. In single precision, the loss has an absolute error of a
    10⁷-th of ½ Σ w² e², as it is a difference of large sums; its gradient has none of this.

    Args:
        statistics: the sums over the samples.
        regularization: λ, not negative; a float, or a tensor of shape () or (*batch). Default 0.

    The parameters have the shape of `statistics.moment`: (*batch, D, C) or (*batch, D, C, K, K).

    Raises:
        TypeError, ValueError: an argument is of another kind, or the regularization has another
            shape or is negative; the message names the argument.

    Source:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019, eq. 4.
    """

    def __init__(self, statistics: Statistics, regularization: float | Tensor = 0.0) -> None:
        if not isinstance(statistics, Statistics):
            raise TypeError(f"statistics: {named(statistics)}, should be Statistics")
        self.statistics = statistics
        batch_shape = statistics.batch_shape
        self.regularization = check_regularization(regularization, batch_shape, statistics.gram)
        operator = _hessian(statistics.gram, self.regularization)
        super().__init__(operator, statistics.moment, batch_shape)

    def check(self, params: Tensor) -> None:
        check_parameter("init", params)
        moment = self.statistics.moment
        if params.shape != moment.shape:
            raise ValueError(
                f"init: shape {tuple(params.shape)}, should be {tuple(moment.shape)}, as the "
                "moment of the statistics"
            )
        if params.dtype != moment.dtype or params.device != moment.device:
            raise ValueError(
                f"init: {params.dtype} on {params.device}, should be {moment.dtype} on "
                f"{moment.device} like the statistics"
            )

    def loss(self, params: Tensor) -> Tensor:
        return super().loss(params) + self._constant()

    def evaluate(self, params: Tree, prediction: Tree) -> tuple[Tensor, Tree]:
        loss, gradient = super().evaluate(params, prediction)
        return loss + self._constant(), gradient

    def normal_equations(self, like: Tensor) -> tuple[Tensor, Tensor]:
        gram, moment = self.statistics.gram, self.statistics.moment
        return gram.unsqueeze(-3), self._rows(moment).unsqueeze(-1)

    def inverse(self) -> Operator:
        """The map from a tensor shaped like the parameters to (H + λ)⁻¹ times it, by one factor.

        It preconditions `ConjugateGradient` on problems that differ little from this one: k new
        samples take k + 1 steps, but for rounding. The outer gradient treats it as a constant. It
        gives NaN if H + λ is not positive definite.
        """
        gram = self.statistics.gram.detach()
        decay = self.regularization.detach()[..., None, None]
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        factor, info = torch.linalg.cholesky_ex(factorable(gram + decay * eye))
        factor = factor.masked_fill((info != 0)[..., None, None], torch.nan)

        def operator(params: Tensor) -> Tensor:
            columns = factorable(self._rows(params).mT)
            return torch.cholesky_solve(columns, factor).mT.reshape(params.shape).to(params)

        return operator

    def _rows(self, params: Tensor) -> Tensor:
        return params.flatten(len(self.batch_shape) + 1)

    def _constant(self) -> Tensor:
        """The objective at zero."""
        return 0.5 * self.statistics.energy.sum(-1)


def _hessian(gram: Tensor, regularization: Tensor) -> Operator:
    """The map from a tensor shaped like the parameters to (H + λ) times it."""

    def operator(params: Tensor) -> Tensor:
        product = (params.flatten(gram.ndim - 1) @ gram).reshape(params.shape)
        return trees.add_scaled(product, regularization, params)  # type: ignore[no-any-return]

    return operator
