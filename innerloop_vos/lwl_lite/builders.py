"""Builders of LWL-lite networks, in torchvision's manner."""

from importlib import resources
from pathlib import Path
from typing import Any

from innerloop_vos.backbones.folded import folded_backbone
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.lwl_lite.weights import load_lwl_lite


def lwl_lite(weights: str | Path | None = None, **sizes: Any) -> LWLLite:
    """Build LWL-lite on EfficientNet-Lite0.

    Args:
        weights: file that `save_lwl_lite` wrote, which knows its sizes; "default": the one that
            ships with the package; "imagenet": random heads on a backbone with weights of ImageNet.
            Default: random weights.
        sizes: of `LWLLite`, where no file has them.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file, or the package with the backbone's weights, is missing, unreadable or
            does not fit.
    """
    if weights == "default":
        with resources.as_file(resources.files(__package__) / "lite.safetensors") as path:
            return load_lwl_lite(path)
    if weights is None or weights == "imagenet":
        return LWLLite(folded_backbone("default" if weights else None), **sizes).eval()
    return load_lwl_lite(weights)
