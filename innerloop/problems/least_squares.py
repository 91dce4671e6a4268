"""Nonlinear least squares."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from innerloop import trees
from innerloop._autodiff import Operator, transforming, value_and_pullback
from innerloop.problems.base import CurvedProblem
from innerloop.problems.checks import check_regularization
from innerloop.trees import Tree


class LeastSquares(CurvedProblem):
    """Regularised least squares ½ |r(p)|² + ½ λ |p|² for any differentiable residual r.

    Args:
        residual_fn: maps parameters to their residual, a tensor or a tree of tensors, each of shape
            (*batch, ...). Tensors that it closes over receive the outer gradient.
        regularization: λ, not negative; a float, or a tensor of shape () or `batch_shape`.
            Default 0.
        batch_shape: leading dimensions of every parameter and residual if `residual_fn` computes a
            batch of independent problems. Default (): one problem.

    Source:
        Nocedal and Wright, Numerical Optimization, 2006, section 10.1.
    """

    def __init__(
        self,
        residual_fn: Callable[[Tree], Tree],
        regularization: float | Tensor = 0.0,
        batch_shape: tuple[int, ...] = (),
    ) -> None:
        if not callable(residual_fn):
            raise TypeError(
                f"residual_fn: {type(residual_fn).__name__}, should be a function of the parameters"
            )
        self.residual_fn = residual_fn
        self.batch_shape = torch.Size(batch_shape)
        self.regularization = check_regularization(regularization, self.batch_shape)

    def residual(self, params: Tree) -> Tree:
        """r at `params`."""
        residual = self.residual_fn(params)
        for leaf in trees.leaves(residual):
            if not isinstance(leaf, Tensor):
                raise TypeError(f"residual_fn: returned {type(leaf).__name__}, should be tensors")
            if leaf.shape[: len(self.batch_shape)] != self.batch_shape:
                raise ValueError(
                    f"residual_fn: returned shape {tuple(leaf.shape)}, should begin with the batch "
                    f"shape {tuple(self.batch_shape)}"
                )
        return residual

    def loss(self, params: Tree) -> Tensor:
        return self._value(params, self.residual(params))

    def predict(self, params: Tree) -> None:
        return None

    def evaluate(self, params: Tree, prediction: Tensor | None = None) -> tuple[Tensor, Tree]:
        residual, pullback = value_and_pullback(self.residual, params)
        gradient = trees.add_scaled(pullback(residual), self.regularization, params)
        return self._value(params, residual), gradient

    def respond(self, params: Tree, direction: Tree) -> Tree:
        return torch.func.jvp(self.residual, (params,), (direction,))[1]

    def curvature(self, direction: Tree, response: Tree, square: Tensor | None = None) -> Tensor:
        if square is None:
            square = self.dot(direction, direction)
        return self.dot(response, response) + self.regularization.to(square) * square

    def gauss_newton_operator(self, params: Tree) -> Operator:
        pullback = value_and_pullback(self.residual, params)[1]

        def operator(direction: Tree) -> Tree:
            pulled = pullback(self.respond(params, direction))
            return trees.add_scaled(pulled, self.regularization, direction)

        return operator

    def linearize(self, params: Tree) -> tuple[Tensor, Tensor]:
        """Residual and dense Jacobian at `params`, all columns at once by forward mode.

        Returns:
            r, shape (*batch, M), and J, shape (*batch, M, N) for N parameters per problem, without
            the rows of the regularization.
        """
        batch_dims = len(self.batch_shape)
        vector = trees.ravel(params, batch_dims)

        def column(unit: Tensor) -> Any:
            direction = trees.unravel(unit.expand_as(vector), params, batch_dims)
            return torch.func.jvp(
                lambda at: trees.ravel(self.residual(at), batch_dims), (params,), (direction,)
            )

        units = torch.eye(vector.shape[-1], dtype=vector.dtype, device=vector.device)
        out_dims: Any = (None, -1)
        columns = torch.func.vmap(column, out_dims=out_dims, randomness="same")
        residual, jacobian = columns(units)
        if not transforming() and not bool(jacobian.detach().any()):
            self.evaluate(params)  # raises if the residual does not depend on the parameters
        return residual, jacobian

    def _value(self, params: Tree, residual: Tree) -> Tensor:
        square = self.dot(params, params)
        return 0.5 * (self.dot(residual, residual) + self.regularization.to(square) * square)
