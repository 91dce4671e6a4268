"""Builders of COSNet networks, in torchvision's manner."""

from importlib import resources
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.backbones.folded import folded_backbone
from innerloop_vos.cosnet.model.network import FORMS, COSNet
from innerloop_vos.cosnet.weights import load_cosnet

_SHIPPED = "cosnet.safetensors"


def cosnet(weights: str | Path | None = None, **sizes: Any) -> COSNet:
    """Build COSNet on EfficientNet-Lite0.

    Args:
        weights: file that `save_cosnet` wrote, which knows its sizes; "default": the one that ships
            with the package; "imagenet": random layers on a backbone with weights of ImageNet.
            Default: random weights.
        sizes: of `COSNet`, where no file has them.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the form of co-attention is unknown; or the file, or the package with the
            backbone's weights, is missing, unreadable or does not fit.
    """
    form = sizes.get("co_attention", "symmetric")
    if form not in FORMS:
        raise InputError(f"co_attention: {form!r} is unknown; there are {', '.join(FORMS)}")
    if weights == "default":
        shipped = resources.files(__package__) / _SHIPPED
        if not shipped.is_file():
            raise InputError(
                "weights: none of cosnet ship with this version; 'innerloop-vos train cosnet' "
                "makes a file for --weights"
            )
        with resources.as_file(shipped) as path:
            return load_cosnet(path)
    if weights is None or weights == "imagenet":
        return COSNet(folded_backbone("default" if weights else None), **sizes).eval()
    return load_cosnet(weights)
