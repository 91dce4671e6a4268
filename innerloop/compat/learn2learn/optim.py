"""Transforms of gradients into updates, as of `learn2learn.optim`."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Transform = Callable[[Tensor], nn.Module]
"""Makes the module that maps the gradient of a parameter to its update."""


class ReshapedTransform(nn.Module):
    """Apply a transform to a gradient in another shape.

    Args:
        transform: the transform.
        shape: the shape of its input.
    """

    def __init__(self, transform: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.transform = transform
        self.in_shape = shape

    def forward(self, gradient: Tensor) -> Tensor:
        update: Tensor = self.transform(gradient.view(self.in_shape))
        return update.view(gradient.shape)


class ModuleTransform:
    """Make a transform of any class of modules, applied to the gradient as one row.

    Args:
        module_cls: called with the number of entries twice, as sizes of input and output.
    """

    def __init__(self, module_cls: Callable[[int, int], nn.Module]) -> None:
        self.module_cls = module_cls

    def __call__(self, parameter: Tensor) -> ReshapedTransform:
        count = parameter.numel()
        return ReshapedTransform(self.module_cls(count, count), (1, count))


class ParameterUpdate(nn.Module):
    """`torch.autograd.grad` whose gradients pass through learned transforms.

    Args:
        parameters: the parameters to update, in order.
        transform: makes the transform of each.
    """

    def __init__(self, parameters: Iterable[Tensor], transform: Transform) -> None:
        super().__init__()
        self.transforms_modules = nn.ModuleList([transform(param) for param in parameters])

    def forward(
        self,
        loss: Tensor,
        parameters: Iterable[Tensor],
        create_graph: bool = False,
        retain_graph: bool = False,
        allow_unused: bool = False,
        allow_nograd: bool = False,
    ) -> list[Tensor | None]:
        """The update of every parameter, None where there is no gradient.

        Args:
            loss, create_graph, retain_graph, allow_unused: as of `torch.autograd.grad`.
            parameters: ordered as those that the object was made for.
            allow_nograd: accepted for compatibility: parameters that do not require a gradient
                have no update in any case.
        """
        found = gradients(
            loss,
            list(parameters),
            create_graph=create_graph,
            retain_graph=create_graph or retain_graph,
            allow_unused=allow_unused,
        )
        return [
            None if gradient is None else transform(gradient)
            for transform, gradient in zip(self.transforms_modules, found, strict=True)
        ]


def gradients(loss: Tensor, params: list[Tensor], **options: Any) -> list[Tensor | None]:
    """Gradients of a loss; None for parameters that do not require one.

    Args:
        loss: the loss.
        params: with respect to what.
        options: as of `torch.autograd.grad`.
    """
    moving = [index for index, param in enumerate(params) if param.requires_grad]
    found = torch.autograd.grad(loss, [params[index] for index in moving], **options)
    result: list[Tensor | None] = [None] * len(params)
    for index, gradient in zip(moving, found, strict=True):
        result[index] = gradient
    return result
