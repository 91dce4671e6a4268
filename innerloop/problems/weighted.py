"""The square of a weighted residual, keeping nothing but its factors."""

from typing import Any

from torch import Tensor
from torch.autograd import Function


class WeightedSquare(Function):
    """(W r)² for weights that broadcast to the residual; written out, it would keep W r as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor, residual: Tensor) -> Tensor:
        return (weights * residual).square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        weights, residual = ctx.saved_tensors
        weighted = 2 * outer * weights * residual
        return (
            (weighted * residual).sum_to_size(weights.shape) if ctx.needs_input_grad[0] else None,
            weighted * weights if ctx.needs_input_grad[1] else None,
        )
