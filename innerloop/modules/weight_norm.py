"""Weight normalisation with the right second derivative: that of torch's kernel is wrong.

`torch.autograd.gradgradcheck` shows it for torch 2.13. The layers of `torch.nn.utils`, old and new,
are recognised, and copies of them compute the same in plain operations.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm

from innerloop._torch import WeightNormParametrization


def weight_norm(direction: Tensor, norm: Tensor, dim: int) -> Tensor:
    """`norm * direction / |direction|`, with the length taken over all axes but `dim`."""
    return direction * (norm / torch.norm_except_dim(direction, 2, dim))


class _Parametrization(WeightNormParametrization):
    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_norm(weight_v, weight_g, self.dim)


class _Hook(WeightNorm):
    def compute_weight(self, module: nn.Module) -> Any:
        norm, direction = (getattr(module, f"{self.name}_{part}") for part in "gv")
        return weight_norm(direction, norm, self.dim)


def class_with_second_derivatives(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of copies of a module, by the class of the module."""
    return _Parametrization if kind is WeightNormParametrization else kind


def hook_with_second_derivatives(hook: WeightNorm) -> WeightNorm:
    """Replaces the hook of `torch.nn.utils.weight_norm` in copies."""
    return _Hook(hook.name, hook.dim)
