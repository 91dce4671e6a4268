"""Weight files of LWL: our own, which describe their network, and the released system's."""

from pathlib import Path
from typing import get_args

from innerloop.errors import InputError
from innerloop_vos import weight_files as files
from innerloop_vos.lwl.builders import BUILDERS, lwl_resnet50
from innerloop_vos.lwl.model.network import LWL, Labels, LabelWeights
from innerloop_vos.weight_files.sizes import WIDTH, Check, one_of, several

_GONE = dict.fromkeys(
    ("lwl_small", "lwl_mobilenet_v2"), "lwl-lite (--method lwl-lite, without --weights)"
)
_SIZES: dict[str, Check] = {
    "features": WIDTH,
    "outputs": WIDTH,
    "labels": one_of(*get_args(Labels)),
    "label_weights": one_of(*get_args(LabelWeights)),
    "label_widths": several(3, WIDTH),
    "decoder_widths": several(4, WIDTH),
    "box": one_of(False, True),
    "backbone": one_of("caffe", "torchvision"),
}


def save_lwl(network: LWL, path: str | Path) -> None:
    """Write a network's weights, with what is needed to build it again.

    Args:
        network: as the builder made it.
        path: a file that ends in `.safetensors`.

    Raises:
        InputError: the path ends otherwise, or the file cannot be written.
    """
    recipe = {"builder": network.builder, "sizes": network.sizes}
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
    kind = files.Kind("LWL", _build, _SIZES, "innerloop-vos convert lwl", gone=_GONE)
    return files.load_network(path, kind).eval()


def _build(recipe: files.Recipe) -> LWL:
    return files.builder_in(recipe, BUILDERS)(**recipe["sizes"])


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
    network = lwl_resnet50(box=any(name.startswith("box_label_encoder.") for name in state))
    left = files.fit_known(network, state, str(path))
    return network, left
