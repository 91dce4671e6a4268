"""Copies of modules whose parameters may be any tensors, results of computations included."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def copy_module(
    module: Module,
    parameter: Callable[[Tensor], Tensor],
    buffer: Callable[[Tensor], Tensor],
    memo: dict[int, Any] | None = None,
) -> Module:
    """A copy of the module and of everything in it.

    Args:
        module: what to copy; stays as it is.
        parameter: gives the tensor that takes the place of each parameter.
        buffer: gives the tensor that takes the place of each buffer.
        memo: of `copy.deepcopy`; what it holds already is taken from there. Default: a new one.

    Returns:
        The copy. Parameters that the module shares are shared in it.
    """
    memo = {} if memo is None else memo
    _replace(module, parameter, buffer, memo)
    return copy.deepcopy(module, memo)


def detached_copy(module: Module, memo: dict[int, Any]) -> Module:
    """What `__deepcopy__` of a module does whose parameters may be results of computations."""
    _replace(module, fresh, fresh, memo)
    copied = module.__new__(type(module))
    memo[id(module)] = copied
    copied.__dict__ = copy.deepcopy(module.__dict__, memo)
    return copied


def _replace(
    module: nn.Module,
    parameter: Callable[[Tensor], Tensor],
    buffer: Callable[[Tensor], Tensor],
    memo: dict[int, Any],
) -> None:
    """Let `copy.deepcopy` replace the module's tensors that it does not know yet."""
    # What hooks computed before the last call, as `torch.nn.utils.weight_norm` does.
    cached = (
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    )
    for tensors, replacement in (
        (module.parameters(), parameter),
        (module.buffers(), buffer),
        (cached, Tensor.detach),
    ):
        for tensor in tensors:
            if id(tensor) not in memo:
                memo[id(tensor)] = replacement(tensor)


def clone(tensor: Tensor) -> Tensor:
    """A copy whose gradient reaches the original."""
    return tensor.clone()


def fresh(tensor: Tensor) -> Tensor:
    """A copy that is a leaf, and trains if the original does."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


class Slots:
    """The places of a module's parameters, in the order of `module.parameters()`."""

    def __init__(self, module: nn.Module) -> None:
        # By name: a reference from a module to itself would keep its graph until the next garbage
        # collection.
        places: dict[int, list[tuple[str, str]]] = {}
        for path, part in module.named_modules(remove_duplicate=False):
            for name, tensor in part._parameters.items():
                if tensor is not None:
                    places.setdefault(id(tensor), []).append((path, name))
        self._places = list(places.values())

    def fill(self, module: nn.Module, tensors: Iterable[Tensor]) -> None:
        """Put tensors where the module's parameters are."""
        for places, tensor in zip(self._places, tensors, strict=True):
            for path, name in places:
                # Assigning the attribute would insist on an nn.Parameter.
                module.get_submodule(path)._parameters[name] = tensor  # type: ignore[assignment]
