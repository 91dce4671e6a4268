"""Copies of modules whose parameters may be any tensors, including results of computations.

A copy has its own module objects, of the same classes, and shares everything else that it can.
Unlike `copy.deepcopy`, it supports tensors that carry a graph, and attributes that cannot be
copied, such as a lock, a generator or an open file.
"""

import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm

from innerloop.modules.parametrized import kind_of_copies
from innerloop.modules.weight_norm import hook_with_second_derivatives

Module = TypeVar("Module", bound=nn.Module)

_CONSTANTS = frozenset(
    {
        *(bool, int, float, complex, str, bytes, type(None), type, range, slice),
        *(BuiltinFunctionType, ModuleType, torch.Size, torch.dtype, torch.device),
    }
)
_DICTS = frozenset({dict, OrderedDict, defaultdict})
_CONTAINERS = _DICTS | {list, set}
_TABLES = frozenset({"_parameters", "_buffers", "_modules"})
_NOT_YET = object()


def copy_module(
    module: Module,
    parameter: Callable[[Tensor], Tensor],
    buffer: Callable[[Tensor], Tensor],
    memo: dict[int, Any] | None = None,
) -> Module:
    """A copy of the module and of the modules in it.

    Lists, dicts and sets are copied. Methods, hooks, functions and other objects are shared, unless
    they refer to the module or its content: then they are copied too, and refer to the copy.

    Args:
        module: the module to copy; not changed.
        parameter: gives the tensor that replaces each parameter, and each other tensor that is not
            a buffer.
        buffer: gives the tensor that replaces each buffer.
        memo: the copies made so far, by the `id` of the original. Default: none.

    Returns:
        The copy. An object that the module has under several names is one object in it, too.
    """
    memo = {} if memo is None else memo
    for tensors, replacement in ((module.parameters(), parameter), (module.buffers(), buffer)):
        for tensor in tensors:
            if id(tensor) not in memo:
                memo[id(tensor)] = replacement(tensor)
    return cast(Module, Template(module, memo).copy(memo, parameter))


class Template:
    """A template of a module as it is now, to make copies of it fast, one for each set of tensors.

    Changes to a copy reach neither the template nor other copies. The module must not change while
    copies are made.

    Args:
        module: the module to copy.
        known: the `id`s of objects outside the module that are copied too. Default: none.
        in_place: modules that are copied in place of some in the module, by the `id` of these. They
            have no other parameters. Default: none.

    Attributes:
        parameters, buffers: the module's, by name, each once.

    Raises:
        TypeError: the module runs outside of Python.
    """

    def __init__(
        self,
        module: nn.Module,
        known: Container[int] = (),
        in_place: Mapping[int, nn.Module] = MappingProxyType({}),
    ) -> None:
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        self._module = module
        named = list(module.named_modules())
        own = {id(part) for _, part in named}
        sources = [in_place.get(id(part), part) for _, part in named]
        for (prefix, _), part in zip(named, sources, strict=True):
            if isinstance(part, torch.jit.ScriptModule):
                raise TypeError(
                    f"module: {type(part).__name__} runs outside of Python, should be an "
                    "ordinary nn.Module, such as the one that was scripted or traced"
                )
            prefix = prefix and prefix + "."
            for tensors, found in (
                (part._parameters, self.parameters),
                (part._buffers, self.buffers),
            ):
                for name, tensor in tensors.items():
                    if tensor is not None and id(tensor) not in own:
                        own.add(id(tensor))
                        found[prefix + name] = tensor
        self._parts = [
            _Part(part, source, own, known)
            for (_, part), source in zip(named, sources, strict=True)
        ]

    def copy(self, memo: dict[int, Any], other: Callable[[Tensor], Tensor]) -> Any:
        """Make a copy of the module, with tensors handed in.

        Args:
            memo: the tensors that replace the module's, by the `id` of the original; the copies of
                modules are added.
            other: gives the tensor that replaces each tensor missing in `memo`.

        Returns:
            The copy.
        """
        return self.copy_into(_Copier(memo, other))

    def copy_into(self, copier: "_Copier") -> Any:
        """Make a copy, reusing what was copied already."""
        memo = copier.memo
        memo[id(None)] = None  # where a layer has no bias
        new = [part for part in self._parts if id(part.original) not in memo]
        # All modules before their content, which may refer to any of them.
        for part in new:
            memo[id(part.original)] = object.__new__(part.kind)
        for part in new:
            part.fill(memo[id(part.original)].__dict__, copier)
        return memo[id(self._module)]


class _Part:
    """A template of one module: what its copies share, and what each copy owns."""

    def __init__(
        self, original: nn.Module, source: nn.Module, own: set[int], known: Container[int]
    ) -> None:
        self.original = original
        self.kind = kind_of_copies(source)
        self._attributes = dict(source.__dict__)
        self._plain: list[tuple[str, Callable[[], Any]]] = []
        self._links: list[tuple[str, list[tuple[str, int]]]] = []
        self._others: list[tuple[str, Any]] = []
        for name, value in self._attributes.items():
            kind = type(value)
            if kind in _CONSTANTS:
                continue
            if kind in _CONTAINERS and not value:
                self._plain.append((name, value.copy))
            elif name in _TABLES and kind is dict:
                self._links.append((name, [(key, id(item)) for key, item in value.items()]))
            elif self._has_own(value, own, known):
                self._others.append((name, value))

    @staticmethod
    def _has_own(value: Any, own: set[int], known: Container[int]) -> bool:
        if type(value) in _CONTAINERS or isinstance(value, Tensor | nn.Module):
            return True
        return _refers(value, (own, known), set())

    def fill(self, state: dict[str, Any], copier: "_Copier") -> None:
        """Make the attributes of a copy."""
        memo = copier.memo
        state.update(self._attributes)
        for name, copy in self._plain:
            state[name] = copy()
        for name, items in self._links:
            state[name] = {key: memo[item] for key, item in items}
        for name, value in self._others:
            state[name] = copier(value)


def clone(tensor: Tensor) -> Tensor:
    """A copy whose gradient reaches the original."""
    return tensor.clone()


def fresh(tensor: Tensor) -> Tensor:
    """A copy that is a leaf, and requires a gradient if the original does."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def detached_copy(module: Module, memo: dict[int, Any]) -> Module:
    """The `__deepcopy__` of a module whose parameters may be results of computations."""
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
                # Assigning the attribute would require an nn.Parameter.
                module.get_submodule(path)._parameters[name] = tensor  # type: ignore[assignment]


class _Copier:
    """Copies values, each once."""

    def __init__(self, memo: dict[int, Any], tensor: Callable[[Tensor], Tensor]) -> None:
        self.memo = memo
        self._tensor = tensor

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in _CONSTANTS:
            return value
        if kind in _DICTS and not value:
            return value.copy()
        known = self.memo.get(id(value), _NOT_YET)
        if known is not _NOT_YET:
            return known
        if isinstance(value, nn.Module):
            template = Template(value, self.memo)
            for tensor in (*template.parameters.values(), *template.buffers.values()):
                if id(tensor) not in self.memo:
                    self.memo[id(tensor)] = self._tensor(tensor)
            return template.copy_into(self)
        copied = self._copied(value, kind)
        self.memo[id(value)] = copied
        return copied

    def _copied(self, value: Any, kind: type) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if kind is WeightNorm:
            return hook_with_second_derivatives(value)
        if kind in _DICTS:
            copied = self.memo[id(value)] = value.copy()
            for key, item in value.items():
                copied[key] = self(item)
            return copied
        if kind is list:
            items = self.memo[id(value)] = []
            items.extend(map(self, value))
            return items
        if kind is set:
            return set(map(self, value))
        if not _refers(value, (self.memo,), set()):
            return value
        return self._referring(value, kind)

    def _referring(self, value: Any, kind: type) -> Any:
        """A copy of an object, not a plain container, that refers to something that is copied."""
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
        copied: Any = object.__new__(kind)
        self.memo[id(value)] = copied
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
        self.memo[id(function)] = copied  # a cell may hold the function itself
        copied.__kwdefaults__ = self(function.__kwdefaults__)
        copied.__dict__.update({name: self(item) for name, item in vars(function).items()})
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            for content in _contents(old):
                cell.cell_contents = self(content)
        return copied


def _refers(value: Any, known: tuple[Container[int], ...], seen: set[int]) -> bool:
    """Whether an object that is copied, known by its `id`, can be reached."""
    if type(value) in _CONSTANTS or id(value) in seen:
        return False
    if isinstance(value, Tensor | nn.Module):
        return any(id(value) in those for those in known)
    seen.add(id(value))
    return any(_refers(item, known, seen) for item in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    """The objects that a value refers to."""
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
