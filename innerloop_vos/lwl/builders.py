"""The builder of the LWL network, in torchvision's manner."""

from typing import Any

from innerloop_vos.lwl.model.backbone import CaffeResNet50
from innerloop_vos.lwl.model.network import LWL


def lwl_resnet50(**sizes: Any) -> LWL:
    """Build the network of the released system with random weights; `load_lwl` reads a file's.

    Args:
        sizes: of `LWL`, with the released system's as defaults.

    Returns:
        The network in evaluation mode, float32, on the CPU.
    """
    return LWL(CaffeResNet50(), **sizes).eval()
