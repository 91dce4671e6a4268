"""Learning What to Learn: its networks, and the segmenter that runs them on video."""

from innerloop_vos.lwl.builders import lwl_mobilenet_v2, lwl_resnet50, lwl_small
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.options import LWLOptions
from innerloop_vos.lwl.presets import Preset
from innerloop_vos.lwl.segmenter import LWLSegmenter
from innerloop_vos.lwl.weights import load_lwl, load_released, save_lwl

__all__ = [
    "LWL",
    "LWLOptions",
    "LWLSegmenter",
    "Preset",
    "load_lwl",
    "load_released",
    "lwl_mobilenet_v2",
    "lwl_resnet50",
    "lwl_small",
    "save_lwl",
]
