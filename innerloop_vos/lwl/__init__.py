"""Learning What to Learn as released: its network, and the segmenter that runs it on video."""

from innerloop_vos.lwl.builders import lwl_efficientnet_lite0, lwl_resnet50
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.segmenter import LWLSegmenter
from innerloop_vos.lwl.weights import load_lwl, load_released, save_lwl

__all__ = [
    "LWL",
    "LWLOptions",
    "LWLSegmenter",
    "load_lwl",
    "load_released",
    "lwl_efficientnet_lite0",
    "lwl_resnet50",
    "save_lwl",
]
