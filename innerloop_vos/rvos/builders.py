"""Builders of RVOS networks, in torchvision's manner."""

from importlib import resources
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.backbones.folded import folded_backbone
from innerloop_vos.rvos.model.network import RVOS
from innerloop_vos.rvos.weights import STRIDE, load_rvos

_SHIPPED = "lite.safetensors"


def rvos(weights: str | Path | None = None, **sizes: Any) -> RVOS:
    """Build RVOS on EfficientNet-Lite0.

    Args:
        weights: file that `save_rvos` wrote, which knows its sizes; "default": the one that ships
            with the package; "imagenet": a random decoder on a backbone with weights of ImageNet.
            Default: random weights.
        sizes: of `RVOS`, where no file has them.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the file, or the package with the backbone's weights, is missing, unreadable or
            does not fit.
    """
    if weights == "default":
        shipped = resources.files(__package__) / _SHIPPED
        if not shipped.is_file():
            raise InputError(
                "weights: none of rvos ship with this version; name a file that 'innerloop-vos "
                "train rvos' made"
            )
        with resources.as_file(shipped) as path:
            return load_rvos(path)
    if weights is None or weights == "imagenet":
        return RVOS(folded_backbone("default" if weights else None, STRIDE), **sizes).eval()
    return load_rvos(weights)
