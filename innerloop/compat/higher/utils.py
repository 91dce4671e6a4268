"""Nested structures and copies of parameters, like `higher.utils`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.compat.copies import fresh


def flatten(x: Any) -> list[Any]:
    """The leaves of nested lists, tuples, sets and dicts, in order.

    Args:
        x: the structure, or a single leaf.
    """
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, list | tuple | set):
        return [leaf for part in x for leaf in flatten(part)]
    return [x]


def get_func_params(
    module: nn.Module, device: torch.device | None = None, safe_copy: bool = True
) -> list[Tensor]:
    """Copies of a module's parameters that are leaves.

    Args:
        module: not changed.
        device: device of the copies. Default: that of the parameters.
        safe_copy: copy the memory too; otherwise the copies share it where they can. Default True.

    Returns:
        One tensor per parameter, in order, which requires a gradient if the parameter does.
    """
    return [_copy_tensor(param, safe_copy, device) for param in module.parameters()]


def _copy_tensor(t: Tensor, safe_copy: bool, device: torch.device | None = None) -> Tensor:
    copied = fresh(t) if safe_copy else t.detach().requires_grad_(t.requires_grad)
    if device is None:
        return copied
    return copied.detach().to(device).requires_grad_(t.requires_grad)


def _recursive_map(target: Any, map_fn: Callable[[Any], Any]) -> Any:
    """A structure of the same form with every leaf mapped."""
    if isinstance(target, dict):
        return type(target)((key, _recursive_map(part, map_fn)) for key, part in target.items())
    if isinstance(target, list | tuple | set):
        return type(target)(_recursive_map(part, map_fn) for part in target)
    return map_fn(target)
