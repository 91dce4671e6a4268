"""Builders of LWL networks, in torchvision's manner."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from innerloop_vos.backbones import Backbone, backbone
from innerloop_vos.lwl.model.backbone import CaffeResNet50
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.presets import Preset, of_small
from innerloop_vos.weight_files import fit, read_network, read_weights

LIGHT_SIZES: dict[str, Any] = {
    "stride": 8,
    "outputs": 8,
    "decoder_widths": (64, 48, 32, 16),
    "mask_label": True,
}
"""Sizes of the networks that run and train on a CPU."""


def lwl_resnet50(weights: str | Path | None = None, **sizes: Any) -> LWL:
    """Build the network of the released system.

    Args:
        weights: file with weights under the released names, as `innerloop-vos convert lwl` writes
            it. Default: random weights.
        sizes: of `LWL`, with the released system's as defaults; and `box=True` for a box encoder,
            which a file that has one implies.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file is missing, unreadable or does not fit.
    """
    return _build(CaffeResNet50(), weights, sizes)


def lwl_mobilenet_v2(weights: str | Path | None = None, **sizes: Any) -> LWL:
    """Build LWL on torchvision's MobileNetV2, with `LIGHT_SIZES` as defaults; as `lwl_resnet50`."""
    return _build(backbone("mobilenet_v2", None), weights, LIGHT_SIZES | sizes)


def lwl_small(weights: str | Path | None = None, **sizes: Any) -> LWL:
    """Build LWL on the small backbone, with `LIGHT_SIZES` as defaults; as `lwl_resnet50`.

    Args:
        weights: as there, or "default": those that ship with the package, for masks and for boxes.
        sizes: as there.
    """
    if weights == "default":
        with resources.as_file(resources.files("innerloop_vos.lwl") / "small.safetensors") as path:
            recipe = read_network(path)[1]
            network = lwl_small(path, **recipe["sizes"] | sizes)
            network.preset = Preset.from_json(recipe["preset"])
            return network
    network = _build(backbone("small", None), weights, LIGHT_SIZES | sizes)
    network.preset = of_small(network.sizes)
    return network


def _build(features: Backbone, weights: str | Path | None, sizes: dict[str, Any]) -> LWL:
    own = {name: size for name, size in sizes.items() if name != "box"}
    network = LWL(features, **own)
    state = None if weights is None else read_weights(weights)
    if sizes.get("box") or (state is not None and has_box_encoder(state)):
        network.add_box_encoder()
    if state is not None:
        fit(network, state, str(weights))
    return network.eval()


def has_box_encoder(names: Iterable[str]) -> bool:
    """Whether there are tensors among these for videos that start from a box."""
    return any(name.startswith("box_label_encoder.") for name in names)
