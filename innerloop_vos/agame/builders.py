"""Builders of A-GAME networks, in torchvision's manner."""

from importlib import resources
from pathlib import Path
from typing import Any

from innerloop_vos.agame.model.network import AGAME
from innerloop_vos.agame.weights import load_agame
from innerloop_vos.backbones.folded import folded_backbone


def agame(weights: str | Path | None = None, **sizes: Any) -> AGAME:
    """Build A-GAME on EfficientNet-Lite0.

    Args:
        weights: file that `save_agame` wrote, which knows its sizes; "default": the one that ships
            with the package; "imagenet": random heads on a backbone with weights of ImageNet.
            Default: random weights.
        sizes: of `AGAME`, where no file has them.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file, or the package with the backbone's weights, is missing, unreadable or
            does not fit.
    """
    if weights == "default":
        with resources.as_file(resources.files(__package__) / "agame.safetensors") as path:
            return load_agame(path)
    if weights is None or weights == "imagenet":
        return AGAME(folded_backbone("default" if weights else None), **sizes).eval()
    return load_agame(weights)
