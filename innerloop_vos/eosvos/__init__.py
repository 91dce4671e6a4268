"""e-OSVOS: Mask R-CNN fine-tuned to each object with meta-learned rates and initialisation."""

from innerloop_vos.eosvos.builders import eosvos_lite, eosvos_mobilenet_v2, eosvos_resnet50
from innerloop_vos.eosvos.network import EOSVOS
from innerloop_vos.eosvos.options import EOSVOSOptions
from innerloop_vos.eosvos.segmenter import EOSVOSSegmenter
from innerloop_vos.eosvos.weights import load_eosvos, load_released, save_eosvos

__all__ = [
    "EOSVOS",
    "EOSVOSOptions",
    "EOSVOSSegmenter",
    "eosvos_lite",
    "eosvos_mobilenet_v2",
    "eosvos_resnet50",
    "load_eosvos",
    "load_released",
    "save_eosvos",
]
