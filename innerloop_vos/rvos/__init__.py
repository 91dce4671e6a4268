"""RVOS: a recurrent network that segments one object after the other, frame after frame."""

from innerloop_vos.rvos.builders import rvos, save_rvos
from innerloop_vos.rvos.instances import Instances, instances
from innerloop_vos.rvos.model.network import RVOS
from innerloop_vos.rvos.options import RVOSOptions, ZeroShotOptions
from innerloop_vos.rvos.segmenter import RVOSSegmenter
from innerloop_vos.rvos.zero_shot import RVOSZeroShotSegmenter

__all__ = [
    "RVOS",
    "Instances",
    "RVOSOptions",
    "RVOSSegmenter",
    "RVOSZeroShotSegmenter",
    "ZeroShotOptions",
    "instances",
    "rvos",
    "save_rvos",
]
