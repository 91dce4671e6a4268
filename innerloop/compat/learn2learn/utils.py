"""Modules whose parameters are results of computations, like `learn2learn.utils`."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from innerloop.compat.copies import Module, Slots, clone, copy_module
from innerloop.compat.gradients import check_dense

Dist = TypeVar("Dist", bound=Distribution)


def clone_module(module: Module, memo: dict[int, Any] | None = None) -> Module:
    """A copy of a module whose parameters are clones: gradients of the copy reach the module.

    Buffers are copies: unlike in learn2learn 0.2.0, where the running statistics of a clone's
    BatchNorm are those of the module, no call of the copy changes the module.

    Args:
        module: the module to copy; not changed.
        memo: the copies of earlier calls, so that tensors shared between modules stay shared.
            Default: nothing.

    Returns:
        The copy.

    Raises:
        ValueError: a parameter is sparse.
    """
    check_dense(module.named_parameters())
    return copy_module(module, clone, clone, memo)


def update_module(
    module: Module,
    updates: Iterable[Tensor | None] | None = None,
    memo: dict[Tensor, Tensor] | None = None,
) -> Module:
    """Replace every parameter p by p + u, in a way that can be differentiated.

    Args:
        module: gets the new parameters; an ordinary module is left without `nn.Parameter`s.
        updates: the u of every parameter, ordered as `module.parameters()`; None leaves a
            parameter alone. Default: the attribute `update` of each, where there is one.
        memo: the replacements of parameters in earlier calls, which are used again, so that
            parameters shared between modules stay shared. This call adds its own. Default: none.

    Returns:
        The module itself.

    Raises:
        ValueError: there are not as many updates as parameters.
    """
    params: list[Tensor] = list(module.parameters())
    if updates is None:
        updates = [getattr(param, "update", None) for param in params]
    changes = list(updates)
    if len(changes) != len(params):
        raise ValueError(
            f"updates: {len(changes)}, should be one for each of the {len(params)} parameters"
        )
    memo = {} if memo is None else memo
    for param, change in zip(params, changes, strict=True):
        if param not in memo and change is not None:
            memo[param] = param + change
    Slots(module).fill(module, [memo.get(param, param) for param in params])
    return module


def detach_module(module: nn.Module, keep_requires_grad: bool = False) -> None:
    """Detach a clone's parameters and buffers from their history, in place.

    Args:
        module: the clone.
        keep_requires_grad: those that required a gradient require it again, as leaves. Default
            False.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        required = tensor.requires_grad
        tensor.detach_()
        if keep_requires_grad:
            tensor.requires_grad_(required)


def clone_parameters(param_list: Iterable[Tensor]) -> list[Tensor]:
    """Copies of tensors whose gradients reach the originals."""
    return [clone(param) for param in param_list]


def clone_named_parameters(param_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors by name whose gradients reach the originals."""
    return {name: clone(param) for name, param in param_dict.items()}


def clone_distribution(dist: Dist) -> Dist:
    """A copy of a distribution whose parameters are clones: gradients of it reach the original.

    Args:
        dist: a distribution of `torch.distributions`; not changed.

    Returns:
        The copy.
    """
    copied: Dist = _changed(dist, clone, {})
    return copied


def detach_distribution(dist: Dist) -> Dist:
    """Detach the parameters of a distribution from their history, in place.

    Args:
        dist: a distribution of `torch.distributions`; its parameters become constants.

    Returns:
        The distribution itself.
    """
    dist.__dict__.update(vars(_changed(dist, Tensor.detach, {})))
    return dist


def _changed(value: Any, change: Callable[[Tensor], Tensor], memo: dict[int, Any]) -> Any:
    """A copy of a distribution's parts with other tensors, each made once."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, list):
        return [_changed(part, change, memo) for part in value]
    if isinstance(value, Tensor):
        memo[id(value)] = change(value)
    elif isinstance(value, Distribution | Transform):
        # Registered before its parts: a transform and its inverse refer to each other.
        copied = memo[id(value)] = copy(value)
        parts = vars(value).items()
        copied.__dict__.update({name: _changed(part, change, memo) for name, part in parts})
    return memo.get(id(value), value)


def magic_box(x: Any) -> Any:
    """One, with the gradient of x: makes a surrogate loss of log-probabilities.

    Args:
        x: log-probabilities; anything but a tensor is returned as it is.

    Source:
        Foerster et al., DiCE: The Infinitely Differentiable Monte Carlo Estimator, ICML 2018.
    """
    return torch.exp(x - x.detach()) if isinstance(x, Tensor) else x
