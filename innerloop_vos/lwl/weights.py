"""Weight files of LWL: our own, which describe their network, and the released system's."""

from collections.abc import Callable
from pathlib import Path

from innerloop.errors import InputError
from innerloop_vos import weight_files as files
from innerloop_vos.backbones import MobileNetV2, SmallBackbone
from innerloop_vos.lwl.builders import has_box_encoder, lwl_mobilenet_v2, lwl_resnet50, lwl_small
from innerloop_vos.lwl.model.backbone import CaffeResNet50
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.presets import Preset
from innerloop_vos.weight_files.sizes import WIDTH, Check, one_of, several, whole

_BUILDERS: dict[type, Callable[..., LWL]] = {
    CaffeResNet50: lwl_resnet50,
    MobileNetV2: lwl_mobilenet_v2,
    SmallBackbone: lwl_small,
}
_NAMED = {builder.__name__: builder for builder in _BUILDERS.values()}
_SIZES: dict[str, Check] = {
    "stride": one_of(8, 16),
    "features": WIDTH,
    "outputs": WIDTH,
    "label_widths": several(3, WIDTH),
    "decoder_widths": several(4, WIDTH),
    "box": one_of(False, True),
    "mask_label": one_of(False, True),
    "colours": whole(0, 2**14),
}
"""What `save_lwl` writes; widths are those of tensors in the file, the others are not."""


def save_lwl(network: LWL, path: str | Path) -> None:
    """Write a network's weights, with what is needed to build it again.

    Args:
        network: as one of the builders made it.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    builder = _BUILDERS[type(network.feature_extractor)].__name__
    recipe = {"builder": builder, "sizes": network.sizes, "preset": network.preset.to_json()}
    files.write_network(path, network.state_dict(), recipe)


def load_lwl(path: str | Path) -> LWL:
    """Build the network that a file of `save_lwl` describes, with its weights.

    Args:
        path: the file.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable, or was not written by `save_lwl`.
    """
    kind = files.Kind("LWL", _build, _SIZES, "innerloop-vos convert lwl")
    return files.load_network(path, kind).eval()


def _build(recipe: files.Recipe) -> LWL:
    network = files.builder_in(recipe, _NAMED)(**recipe["sizes"])
    network.preset = Preset.from_json(recipe["preset"])
    return network


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
    checkpoint = files.read_checkpoint(path)
    entries = checkpoint.get("net") if isinstance(checkpoint, dict) else None
    if not isinstance(entries, dict):
        raise InputError(f"checkpoint: {path} holds no weights under the key 'net'")
    state = files.tensors_in(entries)
    network = lwl_resnet50(box=has_box_encoder(state))
    left = files.fit_known(network, state, str(path))
    return network.eval(), left
