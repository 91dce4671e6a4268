"""The builders of the LWL network, in torchvision's manner."""

from collections.abc import Callable
from typing import Any

from innerloop_vos.backbones import ResNet50
from innerloop_vos.backbones.resnet_files import Style
from innerloop_vos.lwl.model.backbone import CaffeResNet50, LiteLevels
from innerloop_vos.lwl.model.network import LWL

_LITE = {"features": 256, "decoder_widths": (128, 64, 64, 32)}


def lwl_resnet50(*, backbone: Style = "caffe", **sizes: Any) -> LWL:
    """Build the network of the released system with random weights; `load_lwl` reads a file's.

    Args:
        backbone: style of the ResNet-50, the released system's ("caffe", the default) or
            torchvision's.
        sizes: of `LWL`, with the released system's as defaults.

    Returns:
        The network in evaluation mode, float32, on the CPU.
    """
    network = LWL(CaffeResNet50() if backbone == "caffe" else ResNet50(), **sizes).eval()
    network.style = backbone
    return network


def lwl_efficientnet_lite0(**sizes: Any) -> LWL:
    """Build a network on EfficientNet-Lite0, with random weights.

    It is small enough for first steps of the paper's trainings on a CPU; LWL-lite is the method
    that tracks best with this backbone.

    Args:
        sizes: of `LWL`; smaller by default: 256 features, decoder widths of (128, 64, 64, 32).

    Returns:
        The network in evaluation mode, float32, on the CPU.
    """
    network = LWL(LiteLevels(), **{**_LITE, **sizes}).eval()
    network.builder = "lwl_efficientnet_lite0"
    return network


BUILDERS: dict[str, Callable[..., LWL]] = {
    "lwl_resnet50": lwl_resnet50,
    "lwl_efficientnet_lite0": lwl_efficientnet_lite0,
}
"""By the name that weight files have them under."""
