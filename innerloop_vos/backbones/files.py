"""Weight files: reading them safely and saying what in them does not fit."""

from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from innerloop_vos.errors import InputError

_SHOWN = 3


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict without running any code from the file.

    Args:
        path: A ``.safetensors`` file, or a file that ``torch.save`` wrote with tensors only.

    Returns:
        The tensors by name.

    Raises:
        InputError: The file is missing, unreadable or not a flat state dict of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights: {path} is not a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason, _, _ = str(error).partition("\n")
        raise InputError(f"weights: {path} cannot be read: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"weights: {path} holds no state dict (a dict of tensors by name)")
    return dict(state)


def fit(
    network: nn.Module, state: Mapping[str, Tensor], source: str, ignored: tuple[str, ...] = ()
) -> None:
    """Copy a state dict into a network; half-precision tensors become its own precision.

    Args:
        network: Receives the weights.
        state: Tensors by the network's names.
        source: Where the state came from, for the message.
        ignored: Prefixes of names that the network has no use for.

    Raises:
        InputError: Tensors are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(ignored)}
    # Some releases fold or leave out the counters, which evaluation does not read.
    missing = [key for key in wanted.keys() - given.keys() if not key.endswith("_tracked")]
    unknown = given.keys() - wanted.keys()
    misshapen = [
        f"{key} is {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in given.keys() & wanted.keys()
        if given[key].shape != wanted[key].shape
    ]
    faults = {"missing": missing, "unknown": unknown, "of another shape": misshapen}
    complaints = [f"{len(n)} {what} ({_first(n)})" for what, n in faults.items() if n]
    if complaints:
        raise InputError(f"weights: {source} does not fit: {'; '.join(complaints)}")
    network.load_state_dict(given, strict=False)


def _first(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
