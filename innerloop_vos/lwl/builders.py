"""The builder of the LWL network, in torchvision's manner."""

from typing import Any

from innerloop_vos.backbones import ResNet50
from innerloop_vos.backbones.resnet_files import Style
from innerloop_vos.lwl.model.backbone import CaffeResNet50
from innerloop_vos.lwl.model.network import LWL


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
