"""Weight files: reading them safely and saying what in them does not fit."""

from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop_vos.io.inputs import named_file
from innerloop_vos.weight_files.checkpoints import read_checkpoint

_SHOWN = 3
_MOST_HEADER = 2**24


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict without running any code from the file.

    Args:
        path: A ``.safetensors`` file, or a file that ``torch.save`` wrote with tensors only.

    Returns:
        The tensors by name.

    Raises:
        InputError: The file is missing, unreadable or not a flat state dict of tensors.
    """
    path = named_file(path, "weights")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    state = read_checkpoint(path, "weights")
    named = isinstance(state, dict) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    )
    if not named:
        raise InputError(f"weights: {path} holds no state dict (a dict of tensors by name)")
    return {name: value.detach() for name, value in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            # Of a header that is all names, the tensors would take many times as much.
            if int.from_bytes(file.read(8), "little") > _MOST_HEADER:
                raise ValueError("its header is too large")
        return load_file(path)
    except (SafetensorError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise InputError(f"weights: {path} cannot be read: {error}") from error


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
        InputError: Tensors are missing, unknown, of another shape or not finite.
    """
    given = check_fit(network, state, source, ignored)
    network.load_state_dict(given, strict=False)
    strange = [
        key
        for key, value in network.state_dict().items()
        if key in given and not value.isfinite().all()
    ]
    if strange:
        raise InputError(f"weights: {source} holds numbers that are not finite: {_first(strange)}")


def check_fit(
    network: nn.Module, state: Mapping[str, Tensor], source: str, ignored: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Check that `fit` can copy a state dict; the network may be on the meta device.

    Args:
        network: See `fit`.
        state: See there.
        source: See there.
        ignored: See there.

    Returns:
        The tensors to copy.

    Raises:
        InputError: Tensors are missing, unknown, or of another shape or kind.
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
    strange = [
        f"{key} is {given[key].dtype}"
        for key in given.keys() & wanted.keys()
        if given[key].is_floating_point() < wanted[key].is_floating_point()
        or given[key].is_complex()
    ]
    faults = {
        "missing": missing,
        "unknown": unknown,
        "of another shape": misshapen,
        "of another kind": strange,
    }
    complaints = [f"{len(n)} {what} ({_first(n)})" for what, n in faults.items() if n]
    if complaints:
        raise InputError(f"weights: {source} does not fit: {'; '.join(complaints)}")
    return given


def _first(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
