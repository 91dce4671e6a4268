"""Modules with `torch.nn.utils.parametrize`, which gives each module its own class."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from innerloop.modules.weight_norm import class_with_second_derivatives


def kind_of_copies(module: nn.Module) -> type[nn.Module]:
    """The class that copies of a module have.

    It is the module's own class, unless some of its weights are parametrized. `parametrize.cached`
    keeps those for the one module that the class was made for, and would give them to all copies;
    in the returned class they are computed at each use.
    """
    kind = class_with_second_derivatives(type(module))
    parametrizations = module._modules.get("parametrizations")
    if not isinstance(parametrizations, nn.ModuleDict):
        return kind
    attributes = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
    for name in parametrizations:
        attributes[name] = property(_computed(name), getattr(kind, name).fset)
    return type(kind.__name__, kind.__bases__, attributes)


def _computed(name: str) -> Callable[[nn.Module], Tensor]:
    def weight(module: nn.Module) -> Tensor:
        value: Tensor = cast(nn.ModuleDict, module.parametrizations)[name]()
        return value

    return weight
