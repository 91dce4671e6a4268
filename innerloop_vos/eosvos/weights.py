"""Weight files of e-OSVOS: our own, which describe their network, and the released system's."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.eosvos.builders import eosvos_mobilenet_v2, eosvos_resnet50
from innerloop_vos.eosvos.names import current_names
from innerloop_vos.eosvos.network import EOSVOS
from innerloop_vos.weight_files.backbone import check_fit, fit
from innerloop_vos.weight_files.checkpoints import read_checkpoint
from innerloop_vos.weight_files.network import (
    Check,
    check_sizes,
    one_of,
    read_network,
    several,
    whole,
    write_network,
)

_BUILDERS: dict[str, Callable[..., EOSVOS]] = {
    "eosvos_resnet50": eosvos_resnet50,
    "eosvos_mobilenet_v2": eosvos_mobilenet_v2,
}
_WIDTH, _COUNT = whole(1, 2**14), whole(1, 2**14)
_SIZES: dict[str, Check] = {
    "image_size": several(2, whole(16, 2**12)),
    "anchors": several(5, whole(1, 2**12)),
    "box_features": _WIDTH,
    "mask_features": _WIDTH,
    "mask_pooling": whole(1, 2**7),
    "sampled_anchors": _COUNT,
    "sampled_boxes": _COUNT,
    "proposals": several(2, _COUNT),
    "mask_loss": one_of("lovasz", "cross-entropy"),
    "frozen_layers": whole(0, 100),
    "channels": _WIDTH,
    "norm": one_of("group", "frozen"),
}
"""What `save_eosvos` writes; widths are those of tensors in the file, the others are not."""

_MODEL, _RATES = "model.", "rates."
_RELEASED_MODEL, _RELEASED_RATES = "model_init_", "log_init_lr_"


def save_eosvos(network: EOSVOS, rates: il.LearningRates, path: str | Path) -> None:
    """Write a network and its learning rates, with what is needed to build them again.

    Args:
        network: as one of the builders made it.
        rates: of its parameters, the same in all steps.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    state = {f"{_MODEL}{name}": value for name, value in network.state_dict().items()}
    state |= {f"{_RATES}{name}": value for name, value in rates.state_dict().items()}
    recipe = {"builder": network.builder, "sizes": network.sizes, "rates": rates.per}
    write_network(path, state, recipe)


def load_eosvos(path: str | Path) -> tuple[EOSVOS, il.LearningRates]:
    """Build the network and the rates that a file of `save_eosvos` holds.

    Args:
        path: the file.

    Returns:
        Both, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_eosvos`.
    """
    state, recipe = read_network(path)
    parts = _part(state, _MODEL), _part(state, _RATES)

    def build() -> tuple[EOSVOS, il.LearningRates]:
        network = _BUILDERS[recipe["builder"]](**check_sizes(recipe.get("sizes"), _SIZES))
        return network, il.LearningRates(network, per=recipe["rates"])

    try:
        with torch.device("meta"):  # without memory, until the tensors in the file fit
            empty = build()
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"weights: {path} does not say which e-OSVOS network it holds ({error}); "
            "'innerloop-vos convert e-osvos' writes such a file from a released checkpoint"
        ) from error
    check_fit(empty[0], parts[0], str(path))
    check_fit(empty[1], parts[1], str(path))
    network, rates = build()
    fit(network, parts[0], str(path))
    fit(rates, parts[1], str(path))
    return network, rates


def load_released(path: str | Path) -> tuple[EOSVOS, il.LearningRates, list[str]]:
    """Read a checkpoint of the released system, without running the code in it.

    Args:
        path: a file with the meta-learned initialisation and rates, one a neuron.

    Returns:
        The network, its rates, and the names of the tensors that they have no place for.

    Raises:
        InputError: the file is missing or unreadable, holds no such tensors, or lacks some, or
            they have other shapes.
    """
    state = next(_meta_learned(read_checkpoint(path)), None)
    if state is None:
        raise InputError(
            f"checkpoint: {path} holds no meta-learned initialisation (tensors '{_RELEASED_MODEL}"
            f"NAME' and '{_RELEASED_RATES}NAME')"
        )
    network = eosvos_resnet50()
    rates = il.LearningRates(network, per="neuron")
    left = [k for k in state if not k.startswith((_RELEASED_MODEL, _RELEASED_RATES))]
    for module, prefix, separator in (
        (network, _RELEASED_MODEL, "."),
        (rates, _RELEASED_RATES, "-"),
    ):
        dotted = {k.replace("-", "."): v for k, v in _part(state, prefix).items()}
        named = {k.replace(".", separator): v for k, v in current_names(dotted).items()}
        known = module.state_dict().keys()
        fit(module, {k: v for k, v in named.items() if k in known}, str(path))
        left += [prefix + k for k in named if k not in known]
    return network, rates, sorted(left)


def _meta_learned(checkpoint: Any) -> Iterator[dict[str, Tensor]]:
    """The dicts in a checkpoint, at any depth, that have a meta-learned initialisation."""
    waiting, seen = [checkpoint], set()
    while waiting:
        entries = waiting.pop()
        if not isinstance(entries, dict) or id(entries) in seen:
            continue
        seen.add(id(entries))
        tensors = {str(k): v for k, v in entries.items() if isinstance(v, Tensor)}
        if any(name.startswith(_RELEASED_MODEL) for name in tensors):
            yield tensors
        waiting.extend(reversed(entries.values()))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
