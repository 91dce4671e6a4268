"""Tensors by name in files of any origin and format, read without running any code in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.io.inputs import named_file
from innerloop_vos.weight_files.checkpoints import read_checkpoint

SUFFIX = ".safetensors"
_LARGEST_HEADER = 2**24


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict without running any code from the file.

    Args:
        path: a `.safetensors` file, or a file that `torch.save` wrote with tensors only.

    Returns:
        The tensors by name.

    Raises:
        InputError: the file is missing, unreadable or not a flat state dict of tensors.
    """
    return read_described(path)[0]


def read_described(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict, and what the file says about it.

    Args:
        path: as for `read_weights`.

    Returns:
        The tensors by name, and the texts in the header: none but in `.safetensors` files.

    Raises:
        InputError: as `read_weights`.
    """
    path = named_file(path, "weights")
    if path.suffix == SUFFIX:
        return _read_safetensors(path)
    state = read_checkpoint(path, "weights")
    if not isinstance(state, dict) or state.keys() != tensors_in(state).keys():
        raise InputError(f"weights: {path} holds no state dict (a dict of tensors by name)")
    return {name: value.detach() for name, value in state.items()}, {}


def tensors_in(entries: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return those entries of a checkpoint's dict that are tensors with a name."""
    return {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            # Of a header that is all names, the tensors would take many times as much.
            if int.from_bytes(file.read(8), "little") > _LARGEST_HEADER:
                raise ValueError("its header is too large")
        with safe_open(path, framework="pt") as content:
            state = {name: content.get_tensor(name) for name in list(content.keys())}
            return state, content.metadata() or {}
    except (SafetensorError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise InputError(f"weights: {path} cannot be read: {error}") from error
