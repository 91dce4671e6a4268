"""LWL-lite: Learning What to Learn whose target model is solved in closed form."""

from innerloop_vos.lwl_lite.builders import lwl_lite, save_lwl_lite
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.lwl_lite.options import SPEEDS, LWLLiteOptions
from innerloop_vos.lwl_lite.segmenter import LWLLiteSegmenter

__all__ = [
    "SPEEDS",
    "LWLLite",
    "LWLLiteOptions",
    "LWLLiteSegmenter",
    "lwl_lite",
    "save_lwl_lite",
]
