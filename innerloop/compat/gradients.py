"""Gradients of losses for the compatible layers."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor


def gradients(loss: Tensor, params: Iterable[Tensor], **options: Any) -> list[Tensor | None]:
    """Gradients of a loss; None for parameters that do not require one.

    Args:
        loss: scalar.
        params: parameters to differentiate with respect to.
        options: see `torch.autograd.grad`.

    Returns:
        One tensor per parameter, None where the loss does not depend on it.
    """
    result: list[Tensor | None] = [None] * len(listed := list(params))
    moving = [index for index, param in enumerate(listed) if param.requires_grad]
    found = torch.autograd.grad(loss, [listed[index] for index in moving], **options)
    for index, gradient in zip(moving, found, strict=True):
        result[index] = gradient
    return result


def of_dense(rule: Callable[[Tensor], Tensor], gradient: Tensor) -> Tensor:
    """The update that a rule computes from a gradient, which may be sparse.

    If a gradient is sparse, like that of `nn.Embedding(sparse=True)`, the outer gradient of the
    update is sparse, too; rules see dense ones only.
    """
    update = rule(gradient.to_dense())
    return cast(Tensor, _DenseGradient.apply(update)) if gradient.is_sparse else update


class _DenseGradient(torch.autograd.Function):
    """The identity, whose gradient is dense."""

    @staticmethod
    def forward(ctx: Any, update: Tensor) -> Tensor:
        return update.view_as(update)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.to_dense()


def check_dense(named: Iterable[tuple[str, Tensor]]) -> None:
    """Raise ValueError with its name if a trainable parameter is sparse.

    Args:
        named: names and tensors, as from `nn.Module.named_parameters`.
    """
    for name, param in named:
        if param.requires_grad and param.layout != torch.strided:
            raise ValueError(f"{name}: {param.layout}, should be dense: adapt .to_dense() of it")
