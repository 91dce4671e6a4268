"""Squared weights on a residual: only the factors are kept, which other steps keep anyway."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from innerloop._primitive import Primitive, wanted


def weighted_square(weights: Tensor, residual: Tensor) -> Tensor:
    """(W r)² for weights that broadcast to the residual."""
    return _apply(WeightedSquare, weights, residual)


def square_weighted(weights: Tensor, residual: Tensor) -> Tensor:
    """W² r for weights that broadcast to the residual."""
    return _apply(SquareWeighted, weights, residual)


def _apply(function: type[Primitive], weights: Tensor, residual: Tensor) -> Tensor:
    if weights.requires_grad or residual.requires_grad:
        return function.apply(weights, residual)  # type: ignore[no-any-return]
    # For a small problem, calling an autograd Function takes longer than the computation.
    return function.forward(weights, residual)  # type: ignore[no-any-return]


class WeightedSquare(Primitive):
    """(W r)²; written out, it would keep W r as well."""

    @staticmethod
    def forward(weights: Tensor, residual: Tensor) -> Tensor:
        return (weights * residual).square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        weights, residual = ctx.saved_tensors
        needed = wanted(ctx)
        weighted = 2 * outer * weights * residual
        return (
            (weighted * residual).sum_to_size(weights.shape) if needed[0] else None,
            weighted * weights if needed[1] else None,
        )


class SquareWeighted(Primitive):
    """W² r; written out, it would keep W² as well."""

    @staticmethod
    def forward(weights: Tensor, residual: Tensor) -> Tensor:
        return weights.square() * residual

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        weights, residual = ctx.saved_tensors
        return square_weighted_gradients(weights, residual, outer, wanted(ctx))


def square_weighted_gradients(
    weights: Tensor, residual: Tensor, outer: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the weights and of the residual, if W² r receives `outer`."""
    return (
        (2 * weights * residual * outer).sum_to_size(weights.shape) if needed[0] else None,
        SquareWeighted.apply(weights, outer) if needed[1] else None,
    )
