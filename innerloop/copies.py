"""Copies of modules whose parameters may be any tensors, results of computations included.

A copy has module objects of its own, of the same classes, and shares whatever it need not own.
Other than `copy.deepcopy`, it takes tensors that carry a graph, and attributes that nothing can
copy, such as a lock, a generator or an open file.
"""

import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Module = TypeVar("Module", bound=nn.Module)

_CONSTANTS = frozenset(
    {
        *(bool, int, float, complex, str, bytes, type(None), type, range, slice),
        *(BuiltinFunctionType, ModuleType, torch.Size, torch.dtype, torch.device),
    }
)
_DICTS = frozenset({dict, OrderedDict, defaultdict})
_NOT_YET = object()


def copy_module(
    module: Module,
    parameter: Callable[[Tensor], Tensor],
    buffer: Callable[[Tensor], Tensor],
    memo: dict[int, Any] | None = None,
) -> Module:
    """A copy of the module and of the modules in it.

    Lists, dicts and sets are copied. Methods, hooks, functions and other objects are shared, unless
    they refer to the module or what is in it: then they are made anew and refer to the copy.

    Args:
        module: what to copy; stays as it is.
        parameter: gives the tensor that takes the place of each parameter, and of each other tensor
            that is no buffer.
        buffer: gives the tensor that takes the place of each buffer.
        memo: what is copied already, by the `id` of the original. Default: nothing.

    Returns:
        The copy. What the module has under several names is one thing in it, too.
    """
    memo = {} if memo is None else memo
    for tensors, replacement in ((module.parameters(), parameter), (module.buffers(), buffer)):
        for tensor in tensors:
            if id(tensor) not in memo:
                memo[id(tensor)] = replacement(tensor)
    return copy_with(module, memo, parameter)


def copy_with(module: Module, memo: dict[int, Any], other: Callable[[Tensor], Tensor]) -> Module:
    """A copy of the module, with tensors handed in.

    Args:
        module: what to copy; stays as it is.
        memo: the tensors that take the place of the module's, by the `id` of the original; the
            copies of modules are added.
        other: gives the tensor that takes the place of each that `memo` does not have.

    Returns:
        The copy.
    """
    copied: Module = _Copier(memo, other).module(module)
    if parametrize._cache_enabled:
        forget_cached(copied)
    return copied


def forget_cached(module: nn.Module) -> None:
    """Let `parametrize.cached` compute the weights of this module anew."""
    # It knows modules by their `id`, which may have been that of a copy that is gone.
    own = {id(part) for part in module.modules()}
    for key in [key for key in parametrize._cache if key[0] in own]:
        del parametrize._cache[key]


def clone(tensor: Tensor) -> Tensor:
    """A copy whose gradient reaches the original."""
    return tensor.clone()


def fresh(tensor: Tensor) -> Tensor:
    """A copy that is a leaf, and trains if the original does."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def detached_copy(module: Module, memo: dict[int, Any]) -> Module:
    """What `__deepcopy__` of a module does whose parameters may be results of computations."""
    return copy_module(module, fresh, fresh, memo)


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


class _Copier:
    """Copies values, each once."""

    def __init__(self, memo: dict[int, Any], tensor: Callable[[Tensor], Tensor]) -> None:
        self._memo = memo
        self._tensor = tensor

    def module(self, module: Any) -> Any:
        """Copy a module, unless that is done already."""
        memo = self._memo
        if id(module) not in memo:
            if isinstance(module, torch.jit.ScriptModule):
                raise TypeError(
                    f"module: {type(module).__name__} runs outside of Python, should be an "
                    "ordinary nn.Module, such as the one that was scripted or traced"
                )
            # All of them before what is in them, which may refer to any.
            new = [part for part in module.modules() if id(part) not in memo]
            for part in new:
                memo[id(part)] = object.__new__(type(part))
            for part in new:
                state = memo[id(part)].__dict__
                for name, value in part.__dict__.items():
                    state[name] = value if type(value) in _CONSTANTS else self(value)
        return memo[id(module)]

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in _CONSTANTS:
            return value
        if kind in _DICTS and not value:
            return value.copy()
        known = self._memo.get(id(value), _NOT_YET)
        if known is not _NOT_YET:
            return known
        if isinstance(value, nn.Module):
            return self.module(value)
        copied = self._copied(value, kind)
        self._memo[id(value)] = copied
        return copied

    def _copied(self, value: Any, kind: type) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if kind in _DICTS:
            copied = self._memo[id(value)] = value.copy()
            for key, item in value.items():
                copied[key] = self(item)
            return copied
        if kind is list:
            items = self._memo[id(value)] = []
            items.extend(map(self, value))
            return items
        if kind is set:
            return set(map(self, value))
        if not self._refers(value, set()):
            return value
        return self._referring(value, kind)

    def _referring(self, value: Any, kind: type) -> Any:
        """A copy of what refers to something that is copied, and is no plain container."""
        if isinstance(value, tuple):
            items = [self(item) for item in value]
            return cast(Any, value)._make(items) if hasattr(value, "_make") else kind(items)
        if kind is MethodType:
            return MethodType(value.__func__, self(value.__self__))
        if kind is partial:
            keywords = {name: self(item) for name, item in value.keywords.items()}
            return partial(self(value.func), *map(self, value.args), **keywords)
        if kind is FunctionType:
            return self._function(value)
        if isinstance(value, weakref.ref):
            return weakref.ref(self(value()))
        copied = self._memo[id(value)] = object.__new__(kind)
        for name, item in vars(value).items():
            copied.__dict__[name] = self(item)
        return copied

    def _function(self, function: FunctionType) -> FunctionType:
        cells = [CellType() for _ in function.__closure__ or ()]
        copied = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            self(function.__defaults__),
            tuple(cells),
        )
        self._memo[id(function)] = copied  # a cell may hold the function itself
        copied.__kwdefaults__ = self(function.__kwdefaults__)
        copied.__dict__.update({name: self(item) for name, item in vars(function).items()})
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            for content in _contents(old):
                cell.cell_contents = self(content)
        return copied

    def _refers(self, value: Any, seen: set[int]) -> bool:
        """Whether something that is copied can be reached from a value."""
        if type(value) in _CONSTANTS or id(value) in seen:
            return False
        if isinstance(value, Tensor | nn.Module):
            return id(value) in self._memo
        seen.add(id(value))
        return any(self._refers(item, seen) for item in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    """What a value refers to."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, weakref.ref):
        return (value(),)
    if isinstance(value, MethodType):
        return (value.__self__,)
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, FunctionType):
        cells = [content for cell in value.__closure__ or () for content in _contents(cell)]
        extra = vars(value).values()
        return (value.__defaults__, value.__kwdefaults__, *extra, *cells)
    if isinstance(value, type):
        return ()
    return list(getattr(value, "__dict__", {}).values())


def _contents(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty
        return ()
