"""The segmentation methods by name, and their options."""

from innerloop_vos.methods.registry import (
    METHODS,
    UNSUPERVISED,
    add_method_arguments,
    build_segmenter,
    build_unsupervised,
)

__all__ = [
    "METHODS",
    "UNSUPERVISED",
    "add_method_arguments",
    "build_segmenter",
    "build_unsupervised",
]
