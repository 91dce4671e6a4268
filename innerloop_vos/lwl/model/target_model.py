"""The target model: a filter on projected features, found by an inner solver."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop as il

_KERNEL = 3
"""K, side of the filter in feature pixels."""


class TargetModel(nn.Module):
    """A convolutional filter that maps the features of a frame to the encoding of its mask.

    The filter is no parameter: `fit` finds it by least squares, to which the network's training
    differentiates through.

    Args:
        inputs: channels of the backbone's features.
        features: C, channels that they are projected to.
        outputs: D, channels of the target scores.

    Attributes:
        solver: the inner solver: steepest descent with the released system's floor.

    Source:
        Bhat et al., Learning What to Learn, ECCV 2020, sections 3.3 and 3.4: T_τ and A_θ.
    """

    def __init__(self, inputs: int, features: int, outputs: int) -> None:
        super().__init__()
        self.filter_shape = (outputs, features, _KERNEL, _KERNEL)
        self.solver: il.Solver = il.SteepestDescent(floor=1e-8)
        projection = nn.Conv2d(inputs, features, 3, padding=1, bias=False)
        self.feature_extractor = nn.Sequential(projection)
        root = nn.Parameter(torch.tensor([0.01]))
        self.filter_optimizer = nn.ModuleDict(
            {"residual_module": nn.ParameterDict({"filter_reg": root})}
        )

    @property
    def regularization(self) -> Tensor:
        """λ of the filter, shape (); the learned parameter is its root."""
        root: Tensor = self.filter_optimizer["residual_module"]["filter_reg"]  # type: ignore[index]
        return root.square().squeeze(0)

    def project(self, features: Tensor) -> Tensor:
        """Project backbone features (B, inputs, h, w) to (B, C, h, w), of fixed norm per image.

        A patch under the filter has the norm 1 on average, so that scores and step sizes depend
        neither on the backbone's scale nor on the size of the image.
        """
        projected: Tensor = self.feature_extractor(features)
        # Under autocast too, the sum of squares and the solver need single precision.
        projected = projected.to(torch.promote_types(projected.dtype, torch.float32))
        square = projected.square().sum((1, 2, 3), keepdim=True)
        count = math.prod(projected.shape[1:])
        scale = math.sqrt(1 / math.prod(self.filter_shape[1:]))
        return projected * scale * (count / (square + 1e-5)).sqrt()

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        weights: Tensor,
        init: Tensor | None = None,
        *,
        steps: int,
        adjoint: il.Adjoint | None = None,
    ) -> Tensor:
        """Find the filter that predicts the labels of some frames.

        Args:
            features: as `project` returns them, shape (*batch, N, C, h, w).
            labels: E, shape (*batch, N, D, h, w).
            weights: W, shape (*batch, N, D, h, w).
            init: filter to start from, shape (*batch, D, C, K, K). Default: zero.
            steps: of the solver.
            adjoint: how gradients come back through the solver. Default: `il.Unroll()`.

        Returns:
            The filter, shape (*batch, D, C, K, K).
        """
        problem, init = self._problem(features, labels, weights, init)
        filters: Tensor = il.solve(problem, init, self.solver, steps=steps, adjoint=adjoint).value
        return filters

    def refit(
        self,
        features: Tensor,
        labels: Tensor,
        weights: Tensor,
        init: Tensor | None = None,
        scores: Tensor | None = None,
        *,
        steps: int,
    ) -> tuple[Tensor, Tensor]:
        """`fit` without gradient, from scores that are known and to those of the filter found.

        Args:
            features, labels, weights, init, steps: as in `fit`.
            scores: of `init` on the features, shape (*batch, N, D, h, w), where they are known.
                Default: they are computed.

        Returns:
            The filter, and its scores on the features.
        """
        if init is None:
            scores = torch.zeros_like(labels)
        problem, init = self._problem(features, labels, weights, init)
        state = None
        if scores is not None and isinstance(self.solver, il.SteepestDescent):
            state = il.SolverState(self.solver, problem, init, scores)
        solution = il.solve(
            problem, init, self.solver, steps=steps, adjoint=il.Detach(), state=state
        )
        if isinstance(self.solver, il.SteepestDescent):
            assert solution.state is not None
            return solution.value, solution.state.inner
        return solution.value, problem.predict(solution.value)

    def _problem(
        self, features: Tensor, labels: Tensor, weights: Tensor, init: Tensor | None
    ) -> tuple[il.ConvLeastSquares, Tensor]:
        if init is None:
            init = features.new_zeros(*features.shape[:-4], *self.filter_shape)
        return il.ConvLeastSquares(features, labels, weights, self.regularization), init

    def score(self, filters: Tensor, features: Tensor) -> Tensor:
        """Apply filters (S, D, C, K, K), one a sequence, to features (S, N, C, h, w).

        Returns:
            Target scores, shape (S, N, D, h, w).
        """
        sequences, frames, _, height, width = features.shape
        scores = F.conv2d(
            features.transpose(0, 1).reshape(frames, -1, height, width),
            filters.flatten(0, 1),
            padding=filters.shape[-1] // 2,
            groups=sequences,
        )
        return scores.reshape(frames, sequences, -1, height, width).transpose(0, 1)
