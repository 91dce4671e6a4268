"""Our own weight files: safetensors whose header says how to build the network."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop_vos.io.files import atomic_path
from innerloop_vos.weight_files.fitting import check_fit, fit
from innerloop_vos.weight_files.reading import SUFFIX, read_described
from innerloop_vos.weight_files.sizes import Check, check_sizes

Recipe = dict[str, Any]
"""What is needed to build a network: the name of its `builder`, its `sizes`, what a method adds."""

VERSION = 1
"""Of the files that are written; those without a version are of the first."""

_HEADER = "network"
_HALF_ERROR = 2**-10
"""Of a tensor in half precision, as a share of its largest number."""

Network = TypeVar("Network", bound=nn.Module)
Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind(Generic[Network]):
    """The networks of a method, as its weight files hold them.

    Args:
        name: of the method, for messages.
        build: builds the network of a recipe, whose sizes are checked before.
        sizes: the checks of the sizes, by name.
        command: the one that writes such files.
        elsewhere: returns the tensors that a file may leave out, since a package has them. Default:
            none.
        gone: what takes the place of the networks of earlier versions, by their builder. Default:
            there are none.
    """

    name: str
    build: Callable[[Recipe], Network]
    sizes: Mapping[str, Check]
    command: str
    elsewhere: Callable[[], Mapping[str, Tensor]] = dict
    gone: Mapping[str, str] = field(default_factory=dict)


def write_network(path: str | Path, state: Mapping[str, Tensor], recipe: Recipe) -> None:
    """Write tensors with the recipe of their network.

    Args:
        path: a file that ends in `.safetensors`.
        state: the tensors by name.
        recipe: of the network, for JSON.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    if Path(path).suffix != SUFFIX:
        raise InputError(f"weights: {path} should end in {SUFFIX}")
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    header = json.dumps({**recipe, "version": VERSION})
    with atomic_path(path) as temporary:
        # Not `save_file`, which reports a full disk or a missing folder in an error of its own.
        temporary.write_bytes(save(tensors, {_HEADER: header}))


def halved(tensor: Tensor) -> Tensor:
    """Round a tensor to half precision, or return it as it is where that would change it much.

    Half precision holds no number above 65504, and few digits of those below 6e-5. Whole numbers
    stay as they are.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    half = tensor.half()
    error = (half.to(tensor) - tensor).abs().max()
    return half if error <= _HALF_ERROR * tensor.abs().max() else tensor


def read_network(path: str | Path) -> tuple[dict[str, Tensor], Recipe]:
    """Read what `write_network` wrote.

    Args:
        path: the file.

    Returns:
        The tensors by name, and the recipe: empty if the file has none.

    Raises:
        InputError: the file is missing or unreadable, or of a later version.
    """
    state, texts = read_described(path)
    try:
        recipe = json.loads(texts.get(_HEADER, "{}"))
    except (ValueError, RecursionError):
        recipe = {}
    if not isinstance(recipe, dict):
        recipe = {}
    version = recipe.pop("version", VERSION)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise InputError(
            f"weights: {path} has version {str(version)[:50]} of the format, should be at most "
            f"{VERSION}; a newer innerloop may read it"
        )
    return state, recipe


def load_network(path: str | Path, kind: Kind[Network]) -> Network:
    """Build the network that a file describes, with its weights.

    Args:
        path: a file of `write_network`.
        kind: of network that the file should hold.

    Returns:
        The network, float32, on the CPU.

    Raises:
        InputError: the file is missing or unreadable, describes no such network or one of an
            earlier version, or its tensors are not that network's.
    """
    state, recipe = read_network(path)
    builder = str(recipe.get("builder"))
    if builder in kind.gone:
        raise InputError(
            f"weights: {path} holds {builder}, a network of an earlier version that is no longer "
            f"there; {kind.gone[builder]} takes its place"
        )
    try:
        check_sizes(recipe.get("sizes"), kind.sizes)
        with torch.device("meta"):  # without memory, until the tensors in the file fit
            empty = kind.build(recipe)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"weights: {path} does not say which {kind.name} network it holds ({error}); "
            f"'{kind.command}' writes such a file"
        ) from error
    if empty.state_dict().keys() - state.keys():
        state = {**kind.elsewhere(), **state}
    check_fit(empty, state, str(path))
    network = kind.build(recipe)
    fit(network, state, str(path))
    return network


def builder_in(recipe: Recipe, builders: Mapping[str, Builder]) -> Builder:
    """Return the builder that a recipe names.

    Raises:
        ValueError: it names none of them.
    """
    name = recipe.get("builder")
    if not isinstance(name, str) or name not in builders:
        raise ValueError(f"its builder is {str(name)[:50]}, should be {' or '.join(builders)}")
    return builders[name]
