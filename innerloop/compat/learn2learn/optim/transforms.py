"""Transforms of gradients into updates, as of `learn2learn.optim.transforms`."""

from collections.abc import Callable

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
