"""Parameters of a module by name: which adapt, and which tensors may replace them."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

Selection: TypeAlias = str | Iterable[str] | Callable[[str, nn.Parameter], bool]


def select(module: nn.Module, selection: Selection | None) -> dict[str, Tensor]:
    """The module's parameters that are selected, by their first names.

    Args:
        module: the module that they belong to.
        selection: names, patterns, or a function of name and parameter. Default: all parameters
            that require a gradient.

    Returns:
        The parameters, at least one.

    Raises:
        ValueError: none is selected, a pattern matches none, or the module has layers whose
            parameters have no shape yet.
    """
    named = dict(module.named_parameters())
    _check_initialised(module, named)
    if selection is None:
        chosen = {name for name, value in named.items() if value.requires_grad}
    else:
        chosen = _chosen(module, named, selection)
    if not chosen:
        raise ValueError("parameters: none is selected, should be at least one")
    return {name: value for name, value in named.items() if name in chosen}


def fitting(
    module: nn.Module, tensors: Mapping[str, Tensor], argument: str = "init"
) -> dict[str, Tensor]:
    """Check tensors that replace parameters.

    Args:
        module: the module that they belong to.
        tensors: tensors by any name of the parameter.
        argument: name of the argument, for the message.

    Returns:
        The tensors by the first names of the parameters.

    Raises:
        ValueError: a tensor has no such parameter, has another shape, dtype or device, or is not
            the only one for its parameter.
    """
    if not tensors:
        return {}
    known = dict(module.named_parameters())
    first = dict.fromkeys(known) if known.keys() >= tensors.keys() else first_names(module)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = first.get(name) or name
        if own not in known:
            raise ValueError(f"{argument}: {name!r} is not a parameter of the module")
        parameter = known[own]
        for what in ("shape", "dtype", "device"):
            given, right = getattr(tensor, what), getattr(parameter, what)
            if given != right:
                if what == "shape":
                    given, right = tuple(given), tuple(right)
                raise ValueError(
                    f"{argument}: {name!r} has the {what} {given}, should have {right}"
                )
        if found.setdefault(own, tensor) is not tensor:
            raise ValueError(
                f"{argument}: {name!r} is {own!r} by another name, should be the same tensor"
            )
    return found


def first_names(module: nn.Module) -> dict[str, str]:
    """The first name of each parameter and buffer, by every name that it has."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(tensor), name)
        for tensors in (module.named_parameters, module.named_buffers)
        for name, tensor in tensors(remove_duplicate=False)
    }


def _chosen(module: nn.Module, named: dict[str, nn.Parameter], selection: Selection) -> set[str]:
    first = {name: one for name, one in first_names(module).items() if one in named}
    if callable(selection):
        return {one for name, one in first.items() if selection(name, named[one])}
    chosen = set()
    for pattern in [selection] if isinstance(selection, str) else selection:
        matches = {one for name, one in first.items() if fnmatchcase(name, pattern)}
        if not matches:
            raise ValueError(
                f"parameters: {pattern!r} matches none of the module's parameters: "
                f"{', '.join(named)}"
            )
        chosen |= matches
    return chosen


def _check_initialised(module: nn.Module, named: dict[str, nn.Parameter]) -> None:
    for name, tensor in (*named.items(), *module.named_buffers()):
        if isinstance(tensor, UninitializedTensorMixin):
            raise ValueError(
                f"module: {name!r} has no shape yet; call the module once first, so that its lazy "
                "layers find theirs"
            )
