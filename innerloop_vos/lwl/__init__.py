"""Learning What to Learn: its networks, and the segmenter that runs them on video."""

from innerloop_vos.lwl.network import LWL, lwl_mobilenet_v2, lwl_resnet50, lwl_small
from innerloop_vos.lwl.options import BOX_OPTIONS, LWLOptions
from innerloop_vos.lwl.segmenter import LWLSegmenter

__all__ = [
    "BOX_OPTIONS",
    "LWL",
    "LWLOptions",
    "LWLSegmenter",
    "lwl_mobilenet_v2",
    "lwl_resnet50",
    "lwl_small",
]
