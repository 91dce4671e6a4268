"""Weight files of e-OSVOS: our own, which describe their network, and the released system's."""

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos import weight_files as files
from innerloop_vos.eosvos.builders import eosvos_lite, eosvos_mobilenet_v2, eosvos_resnet50
from innerloop_vos.eosvos.names import current_names
from innerloop_vos.eosvos.network import EOSVOS
from innerloop_vos.weight_files.sizes import WIDTH, Check, one_of, several, whole

_BUILDERS = {
    builder.__name__: builder for builder in (eosvos_resnet50, eosvos_mobilenet_v2, eosvos_lite)
}
_SIZES: dict[str, Check] = {
    "image_size": several(2, whole(16, 2**12)),
    "anchors": several(5, whole(1, 2**12)),
    "box_features": WIDTH,
    "mask_features": WIDTH,
    "mask_pooling": whole(1, 2**7),
    "mask_levels": whole(1, 4),
    "sampled_anchors": WIDTH,
    "sampled_boxes": WIDTH,
    "proposals": several(2, WIDTH),
    "mask_loss": one_of("lovasz", "cross-entropy"),
    "frozen_layers": whole(0, 100),
    "channels": WIDTH,
    "norm": one_of("group", "frozen", "none"),
}
"""What `save_eosvos` writes; widths are those of tensors in the file, the others are not."""

_RELEASED_MODEL, _RELEASED_RATES = "model_init_", "log_init_lr_"


class _Learner(nn.Module):
    """A network with its learning rates: in files, tensors are `model.NAME` or `rates.NAME`."""

    def __init__(self, model: EOSVOS, rates: il.LearningRates) -> None:
        super().__init__()
        self.model, self.rates = model, rates


def save_eosvos(
    network: EOSVOS, rates: il.LearningRates, path: str | Path, *, half: bool = False
) -> None:
    """Write a network and its learning rates, with what is needed to build them again.

    Args:
        network: as one of the builders made it.
        rates: of its parameters, the same in all steps.
        path: a file that ends in `.safetensors`.
        half: whether the network is written in half precision; rates, few and small, never are.
            Default: no.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    recipe = {"builder": network.builder, "sizes": network.sizes, "rates": rates.per}
    state = _Learner(network, rates).state_dict()
    if half:
        state |= {name: files.halved(x) for name, x in state.items() if name.startswith("model.")}
    files.write_network(path, state, recipe)


def load_eosvos(path: str | Path) -> tuple[EOSVOS, il.LearningRates]:
    """Build the network and the rates that a file of `save_eosvos` holds.

    Args:
        path: the file; "default": the one that ships with the package.

    Returns:
        Both, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_eosvos`.
    """
    if path == "default":
        with resources.as_file(resources.files(__package__) / "lite.safetensors") as shipped:
            return load_eosvos(shipped)
    kind = files.Kind("e-OSVOS", _build, _SIZES, "innerloop-vos convert e-osvos")
    learner = files.load_network(path, kind)
    return learner.model, learner.rates


def _build(recipe: files.Recipe) -> _Learner:
    network = files.builder_in(recipe, _BUILDERS)(**recipe["sizes"])
    return _Learner(network, il.LearningRates(network, per=recipe["rates"]))


def load_released(path: str | Path) -> tuple[EOSVOS, il.LearningRates, list[str]]:
    """Read a checkpoint of the released system, without running the code in it.

    Args:
        path: a file with the meta-learned initialisation and rates, one per neuron.

    Returns:
        The network, its rates, and the names of the tensors that they have no place for.

    Raises:
        InputError: the file is missing or unreadable, holds no such tensors, or lacks some, or
            they have other shapes.
    """
    state = next(_meta_learned(files.read_checkpoint(path)), None)
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
        left += [prefix + name for name in files.fit_known(module, named, str(path))]
    return network, rates, sorted(left)


def _meta_learned(checkpoint: Any) -> Iterator[dict[str, Tensor]]:
    """The dicts in a checkpoint, at any depth, that have a meta-learned initialisation."""
    waiting, seen = [checkpoint], set()
    while waiting:
        entries = waiting.pop()
        if not isinstance(entries, dict) or id(entries) in seen:
            continue
        seen.add(id(entries))
        tensors = files.tensors_in(entries)
        if any(name.startswith(_RELEASED_MODEL) for name in tensors):
            yield tensors
        waiting.extend(reversed(entries.values()))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
