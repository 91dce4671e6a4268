"""Learning What to Learn: its networks, and the segmenter that runs them on video."""

from innerloop_vos.lwl.network import LWL, lwl_mobilenet_v2, lwl_resnet50, lwl_small

__all__ = ["LWL", "lwl_mobilenet_v2", "lwl_resnet50", "lwl_small"]
