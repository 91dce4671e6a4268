"""Objects by name: of this package, of packages that are installed, or whatever can be imported."""

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from innerloop.errors import InputError


def build(kind: str, name: str, known: Mapping[str, str], wanted: type, *arguments: Any) -> Any:
    """Import the function or class that a name stands for, and call it.

    Args:
        kind: what it makes, "method" or "backbone". Packages name what they bring in their entry
            points `innerloop_vos.methods` or `innerloop_vos.backbones`.
        name: one in `known` or of these entry points, or `package.module:Object`.
        known: what this package brings, each `package.module:Object`, by name.
        wanted: the type of what it makes.
        arguments: what it is called with.

    Returns:
        What it made.

    Raises:
        InputError: the name is unknown; or what it stands for cannot be imported, takes other
            arguments or makes something else.
    """
    builder = _find(kind, name, known)
    try:
        inspect.signature(builder).bind(*arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind}: {name!r} cannot be called: {error}") from error
    made = builder(*arguments)
    if not isinstance(made, wanted):
        raise InputError(
            f"{kind}: {name!r} makes a {type(made).__name__}, should make a {wanted.__name__}"
        )
    return made


def _find(kind: str, name: str, known: Mapping[str, str]) -> Callable[..., Any]:
    group = f"innerloop_vos.{kind}s"
    brought = {entry.name: entry.value for entry in entry_points(group=group)}
    values = {**known, **brought, **known}  # ours first, and in nobody else's place
    if name not in values and ":" not in name:
        raise InputError(
            f"{kind}: {name!r} is unknown; choose one of {', '.join(values)}, or "
            "package.module:Object"
        )
    value = values.get(name, name)
    try:
        found: Callable[..., Any] = EntryPoint(name, value, group).load()
    except Exception as error:  # whatever the code of others raises
        raise InputError(
            f"{kind}: {value!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise InputError(f"{kind}: {value!r} is {found!r}, should be a function or a class")
    return found
