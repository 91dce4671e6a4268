"""Transforms of gradients into updates, like `learn2learn.optim.transforms`."""

from collections.abc import Callable, Mapping
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
        update: Tensor = self.transform(gradient.reshape(self.in_shape))
        return update.reshape(gradient.shape)


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


class KroneckerTransform:
    """Make a transform with factors for rows and columns, much smaller than one full matrix.

    A weight of a convolution is a batch of matrices, one per output channel: input channels by
    entries of the kernel.

    Args:
        kronecker_cls: called with `n`, `m`, `bias` and `psd`, such as `nn.KroneckerLinear`.
        bias: let the transform add a bias. Default False.
        psd: make the transform positive semi-definite. Default True.

    Source:
        Arnold et al., When MAML Can Adapt Fast and How to Assist When It Cannot, AISTATS 2021.
    """

    def __init__(
        self, kronecker_cls: Callable[..., nn.Module], bias: bool = False, psd: bool = True
    ) -> None:
        self.kronecker_cls = kronecker_cls
        self.bias = bias
        self.psd = psd

    def __call__(self, parameter: Tensor) -> ReshapedTransform:
        sizes = parameter.shape[1:] if parameter.ndim > 2 else parameter.shape
        n = sizes[0] if sizes else 1
        m = sizes[1:].numel()
        transform = self.kronecker_cls(n=n, m=m, bias=self.bias, psd=self.psd)
        return ReshapedTransform(transform, (-1, n, m))


class MetaCurvatureTransform(nn.Module):
    """Multiply a gradient by a matrix along every axis, initially the identity.

    A gradient with fewer than two axes is multiplied entry by entry. All axes of a convolution's
    kernel count as one axis.

    Args:
        param: the parameter whose gradients it is for.
        lr: multiple of the update, which is not learned. Default 1.

    Source:
        Park and Oliva, Meta-Curvature, NeurIPS 2019, section 3.
    """

    def __init__(self, param: Tensor, lr: float = 1.0) -> None:
        super().__init__()

        def identity(size: int) -> nn.Parameter:
            return nn.Parameter(torch.eye(size, dtype=param.dtype, device=param.device))

        self.lr = lr
        if param.ndim < 2:
            self.mc = nn.Parameter(torch.ones_like(param))
        else:
            self.mc_in = identity(param.shape[0])
            self.mc_out = identity(param.shape[1])
        if param.ndim > 2:
            self.mc_f = identity(param.shape[2:].numel())

    def forward(self, gradient: Tensor) -> Tensor:
        if gradient.ndim < 2:
            return self.lr * (self.mc * gradient)
        if gradient.ndim == 2:
            return self.lr * (self.mc_in @ gradient @ self.mc_out)
        update = torch.einsum(
            "ax,yb,cz,xyz->abc", self.mc_in, self.mc_out, self.mc_f, gradient.flatten(2)
        )
        return self.lr * update.reshape(gradient.shape)


class TransformDictionary:
    """Make a separate transform for each parameter.

    Args:
        dictionary: the factory of the transform, by parameter. Gradients of other parameters are
            not changed.
    """

    def __init__(self, dictionary: Mapping[Tensor, Callable[..., nn.Module]]) -> None:
        self.param_to_transform = dictionary

    def __call__(self, param: Tensor, *args: Any, **kwargs: Any) -> nn.Module:
        make = self.param_to_transform.get(param)
        return nn.Identity() if make is None else make(param, *args, **kwargs)
