"""Settings of a method by name, as the command line gives them."""

import ast
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar

from innerloop_vos.errors import InputError

Options = TypeVar("Options")


def read_options(words: Iterable[str], options: Options) -> Options:
    """Change settings by name.

    Args:
        words: Each NAME=VALUE, such as "online_interval=10", "scale=0.8,1.2" or "reset=False".
        options: The settings to change, a dataclass.

    Returns:
        The changed settings.

    Raises:
        InputError: A word is not of that form, a setting unknown, or a value out of its range.
    """
    given: dict[str, Any] = {}
    known = [field.name for field in fields(options)]  # type: ignore[arg-type]
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise InputError(f"option: {name!r} is unknown; there are {', '.join(known)}")
        try:
            is_text = isinstance(getattr(options, name), str)
            given[name] = value if is_text else ast.literal_eval(value)
        except (SyntaxError, ValueError) as error:
            raise InputError(
                f"option: {word!r} should be NAME=VALUE with a number, several by commas, True, "
                "False or None"
            ) from error
    try:
        return replace(options, **given)  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise InputError(f"option: {error}") from error
