"""Copying tensors of a file into a network, and saying what of them does not fit."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from innerloop.errors import InputError

_SHOWN = 3


def fit(
    network: nn.Module, state: Mapping[str, Tensor], source: str, ignored: tuple[str, ...] = ()
) -> None:
    """Copy a state dict into a network; half-precision tensors become its own precision.

    Args:
        network: receives the weights.
        state: tensors by the network's names.
        source: where the state came from, for the message.
        ignored: prefixes of names that the network has no use for.

    Raises:
        InputError: tensors are missing, unknown, of another shape or not finite.
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


def fit_known(network: nn.Module, state: Mapping[str, Tensor], source: str) -> list[str]:
    """`fit` with those tensors of another system that the network has a place for.

    Args:
        network: receives the weights.
        state: tensors by the network's names, and others.
        source: where the state came from, for the message.

    Returns:
        The names that the network has no place for.

    Raises:
        InputError: as `fit`, but for unknown tensors.
    """
    wanted = network.state_dict().keys()
    fit(network, {name: value for name, value in state.items() if name in wanted}, source)
    return sorted(state.keys() - wanted)


def fit_same(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy those tensors of a different network that have the same name and shape.

    Args:
        network: receives them.
        state: tensors by name.

    Returns:
        The names of the network's tensors that stay as they were.
    """
    own = network.state_dict()
    same = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    network.load_state_dict(same, strict=False)
    return sorted(own.keys() - same.keys())


def check_fit(
    network: nn.Module, state: Mapping[str, Tensor], source: str, ignored: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Check that `fit` can copy a state dict; the network may be on the meta device.

    Args:
        network: see `fit`.
        state: see there.
        source: see there.
        ignored: see there.

    Returns:
        The tensors to copy.

    Raises:
        InputError: tensors are missing, unknown, or of another shape or kind.
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
