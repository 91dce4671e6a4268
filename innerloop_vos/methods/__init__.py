"""The segmentation methods by name, and their options."""

from innerloop_vos.methods.registry import METHODS, add_method_arguments, build_segmenter

__all__ = ["METHODS", "add_method_arguments", "build_segmenter"]
