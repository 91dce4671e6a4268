"""Weight files of LWL: our own, which describe their network, and the released system's."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from innerloop.errors import InputError
from innerloop_vos.backbones import MobileNetV2, SmallBackbone
from innerloop_vos.lwl.builders import lwl_mobilenet_v2, lwl_resnet50, lwl_small
from innerloop_vos.lwl.model.backbone import CaffeResNet50
from innerloop_vos.lwl.model.network import DECODER_LEVELS, LWL
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

_BUILDERS: dict[type, Callable[..., LWL]] = {
    CaffeResNet50: lwl_resnet50,
    MobileNetV2: lwl_mobilenet_v2,
    SmallBackbone: lwl_small,
}
_WIDTH = whole(1, 2**14)
_SIZES: dict[str, Check] = {
    "stride": one_of(8, 16),
    "features": _WIDTH,
    "outputs": _WIDTH,
    "kernel": lambda value: whole(1, 15)(value) and value % 2 == 1,
    "label_widths": several(3, _WIDTH),
    "decoder_widths": several(4, _WIDTH),
    "decoder_levels": one_of(*DECODER_LEVELS),
    "box": one_of(False, True),
    "mask_label": one_of(False, True),
    "correction": lambda value: type(value) in (int, float) and 0 < value < 1e6,
    "colours": whole(0, 2**14),
}
"""What `save_lwl` writes; widths are those of tensors in the file, the others are not."""

_BOX_ENCODER = "box_label_encoder."


def save_lwl(network: LWL, path: str | Path) -> None:
    """Write a network's weights, with what is needed to build it again.

    Args:
        network: as one of the builders made it.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    builder = _BUILDERS[type(network.feature_extractor)].__name__
    write_network(path, network.state_dict(), {"builder": builder, "sizes": network.sizes})


def load_lwl(path: str | Path) -> LWL:
    """Build the network that a file of `save_lwl` describes, with its weights.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_lwl`.
    """
    state, recipe = read_network(path)
    builders = {builder.__name__: builder for builder in _BUILDERS.values()}
    try:
        build = builders[recipe["builder"]]
        sizes = check_sizes(recipe.get("sizes"), _SIZES)
        with torch.device("meta"):  # without memory, until the tensors in the file fit
            empty = build(**sizes)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"weights: {path} does not say which LWL network it holds ({error}); "
            "'innerloop-vos convert lwl' writes such a file from a released checkpoint"
        ) from error
    check_fit(empty, state, str(path))
    network = build(**sizes)
    fit(network, state, str(path))
    return network.eval()


def load_released(path: str | Path) -> tuple[LWL, list[str]]:
    """Read a checkpoint of the released system, without running the code in it.

    Args:
        path: a file with weights under the key `net`, with a box encoder or without.

    Returns:
        The network, and the names of the tensors that it has no place for.

    Raises:
        InputError: the file is missing or unreadable, holds no such weights, or lacks some, or
            they have other shapes.
    """
    checkpoint = read_checkpoint(path)
    entries = checkpoint.get("net") if isinstance(checkpoint, dict) else None
    if not isinstance(entries, dict):
        raise InputError(f"checkpoint: {path} holds no weights under the key 'net'")
    state = {str(name): value for name, value in entries.items() if isinstance(value, Tensor)}
    network = lwl_resnet50(box=any(name.startswith(_BOX_ENCODER) for name in state))
    wanted = network.state_dict()
    fit(network, {name: state[name] for name in wanted.keys() & state.keys()}, str(path))
    return network.eval(), sorted(state.keys() - wanted.keys())
