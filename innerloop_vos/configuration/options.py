"""Settings of a method by name, as the command line gives them."""

import ast
import math
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from innerloop.errors import InputError

Options = TypeVar("Options")

MOST = 2**31 - 1
"""Greatest number that a setting can be."""

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    NoneType: "None",
}


def read_options(words: Iterable[str], options: Options) -> Options:
    """Change settings by name.

    Args:
        words: each NAME=VALUE, such as "online_interval=10", "scale=0.8,1.2" or "reset=False".
        options: the settings to change, a dataclass.

    Returns:
        The changed settings.

    Raises:
        InputError: A word is not of that form, a setting unknown, or a value of another kind or
            out of its range.
    """
    given: dict[str, Any] = {}
    hints = _hints(type(options))
    known = list(hints)
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise InputError(f"option: {name!r} is unknown; there are {', '.join(known)}")
        try:
            given[name] = value if hints[name] is str else ast.literal_eval(value)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise InputError(
                f"option: {word!r} should be NAME=VALUE with a number, several by commas, True, "
                "False or None"
            ) from error
        if not _fits(given[name], hints[name]):
            raise InputError(f"option: {word!r}, should be {_wanted(hints[name])}")
    try:
        return changed(options, **given)
    except (TypeError, ValueError) as error:
        raise InputError(f"option: {error}") from error


def changed(options: Options, **settings: Any) -> Options:
    """Change settings by name, those of settings inside too.

    Args:
        options: a dataclass, whose fields may be dataclasses.
        settings: new values by the names of fields, which are different everywhere in it.

    Returns:
        The changed settings.

    Raises:
        TypeError, ValueError: a name is unknown, a value of another kind or out of range.
    """
    hints = _hints(type(options))
    for name, value in settings.items():
        if name not in hints:
            raise TypeError(f"{name!r} is unknown; there are {', '.join(hints)}")
        if not _fits(value, hints[name]):
            raise ValueError(f"{name}: {value!r}, should be {_wanted(hints[name])}")
    replaced: Options = _replaced(options, settings)
    return replaced


def _replaced(options: Any, settings: dict[str, Any]) -> Any:
    own: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            own[field.name] = _replaced(value, settings)
        elif field.name in settings:
            own[field.name] = settings[field.name]
    return replace(options, **own)


def names(kind: type) -> list[str]:
    """The names of all settings."""
    return list(_hints(kind))


def _hints(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        inside = isinstance(hint, type) and is_dataclass(hint)
        found.update(_hints(hint) if inside else {name: hint})
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, its numbers finite and of a size that can be computed with."""
    if isinstance(hint, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if parts[-1] is ...:
            return all(_fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value) and abs(value) <= MOST
    return type(value) is hint and (hint is not int or abs(value) <= MOST)


def _wanted(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(map(_wanted, get_args(hint)))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        count = "several" if parts[-1] is ... else f"{len(parts)}"
        return f"{count} by commas, each {_wanted(parts[0])}"
    return _WORDS[hint] + (f" up to {MOST}" if hint in (int, float) else "")
