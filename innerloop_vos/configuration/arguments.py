"""Options of the command line from the fields of dataclasses, which hold their own help."""

import argparse
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Options = TypeVar("Options")
Parser = argparse.ArgumentParser | argparse._ArgumentGroup


def described(default: Any, help: str, **more: Any) -> Any:
    """Declare a field of a dataclass with its help.

    Args:
        default: its value, or `dataclasses.MISSING` if it has to be given.
        help: what it means, for the help of its option.
        more: how `argparse` is to take it, where its type does not say: `metavar` or `type`.

    Returns:
        The field.
    """
    return field(default=default, metadata={"help": help, **more})


def option(name: str) -> str:
    """Return the option of the command line for a field."""
    return f"--{name.replace('_', '-')}"


def text(value: object) -> str:
    """Return a value as the command line has it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def add_options(
    parser: Parser, kind: type, *, without: Sequence[str] = (), **defaults: Any
) -> None:
    """Declare an option for each field of a dataclass.

    Args:
        parser: receives the options; `read_fields` takes what it parses.
        kind: the dataclass.
        without: fields that are declared elsewhere.
        defaults: of fields whose default is another here.
    """
    hints = get_type_hints(kind)
    for each in fields(kind):
        if each.name in without:
            continue
        default = defaults.get(each.name, each.default)
        given: dict[str, Any] = {"required": True} if default is MISSING else {"default": default}
        # What is empty or off needs no mention.
        bare = default is False or default in (MISSING, None, ())
        shown = "" if bare else f" (default: {text(default)})"
        _add(parser, each, hints[each.name], shown, given)


def add_preset_options(parser: Parser, *presets: Any, without: Sequence[str] = ()) -> None:
    """Declare an option for each field of a dataclass that has several instances to choose from.

    Args:
        parser: receives the options; what is not given is None.
        presets: instances of one dataclass, whose values the help shows.
        without: fields that get no option.
    """
    hints = get_type_hints(type(presets[0]))
    for each in fields(presets[0]):
        if each.name in without:
            continue
        values = [text(getattr(preset, each.name)) for preset in presets]
        shown = " | ".join(values if len(set(values)) > 1 else values[:1])
        _add(parser, each, hints[each.name], f" ({shown})", {"default": None})


def read_fields(arguments: argparse.Namespace, kind: type[Options]) -> Options:
    """Build a dataclass from what a parser with `add_options` parsed."""
    return kind(**{each.name: getattr(arguments, each.name) for each in fields(kind)})  # type: ignore[arg-type]


def _add(parser: Parser, each: Field[Any], hint: Any, shown: str, given: dict[str, Any]) -> None:
    metadata = dict(each.metadata)
    help = (metadata.pop("help") + shown).replace("%", "%%")
    parser.add_argument(option(each.name), help=help, **(_form(hint) | metadata), **given)


def _form(hint: Any) -> dict[str, Any]:
    """How the command line gives a value of a type."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (types.UnionType, Union):  # or None
        return _form(parts[0])
    if kind is Literal:
        return {"type": type(parts[0]), "choices": parts}
    if kind is tuple:

        def values(words: str) -> tuple[Any, ...]:
            return tuple(parts[0](word) for word in words.split(",") if word)

        return {"type": values, "metavar": "VALUE,..."}
    return {"type": hint}
