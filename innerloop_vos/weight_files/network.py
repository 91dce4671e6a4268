"""Weight files that say how to build the network they belong to."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path
from innerloop_vos.weight_files.backbone import read_weights

_HEADER = "network"


def write_network(path: str | Path, state: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> None:
    """Write tensors with the recipe of their network.

    Args:
        path: a file that ends in `.safetensors`.
        state: the tensors by name.
        recipe: what is needed to build the network, for JSON.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise InputError(f"weights: {path} should end in .safetensors")
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        # Not `save_file`, which reports a full disk or a missing folder in an error of its own.
        temporary.write_bytes(save(tensors, {_HEADER: json.dumps(recipe)}))


def read_network(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_network` wrote.

    Args:
        path: the file.

    Returns:
        The tensors by name, and the recipe: empty if the file has none.

    Raises:
        InputError: the file is missing or unreadable.
    """
    state = read_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            recipe = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
    except (SafetensorError, ValueError, RecursionError):
        recipe = {}
    return state, recipe if isinstance(recipe, dict) else {}


Check = Callable[[Any], bool]


def whole(least: int, most: int) -> Check:
    """Return a check of a whole number in a range."""
    return lambda value: type(value) is int and least <= value <= most


def several(count: int, check: Check) -> Check:
    """Return a check of a list of so many values."""
    return lambda value: type(value) is list and len(value) == count and all(map(check, value))


def one_of(*known: Any) -> Check:
    """Return a check of a value among a few."""
    return lambda value: any(type(value) is type(each) and value == each for each in known)


def check_sizes(sizes: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Check the sizes in a recipe, before a network of these sizes takes all memory.

    Args:
        sizes: as the file has them.
        checks: what can be given, by name.

    Returns:
        The sizes.

    Raises:
        ValueError: one is unknown or out of its range.
    """
    if type(sizes) is not dict:
        raise ValueError("its sizes are missing")
    for name, value in sizes.items():
        if name not in checks or not checks[name](value):
            raise ValueError(f"its sizes have {name} = {str(value)[:50]}")
    return sizes
