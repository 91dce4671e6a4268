"""Builders of LWL-lite networks, in torchvision's manner."""

from importlib import resources
from pathlib import Path
from typing import Any

from innerloop_vos.backbones import backbone
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.weight_files import fit, read_weights


def lwl_lite(weights: str | Path | None = None, **sizes: Any) -> LWLLite:
    """Build LWL-lite on EfficientNet-Lite0.

    Args:
        weights: file that `innerloop_vos.lwl_lite.save_lwl_lite` wrote; "default": that which ships
            with the package; "imagenet": the backbone's of ImageNet, and random heads. Default:
            random weights.
        sizes: of `LWLLite`.

    Returns:
        The network in evaluation mode, float32, on the CPU; normalisations of the backbone are
        folded.

    Raises:
        InputError: the file is missing, unreadable or does not fit.
    """
    if weights == "default":
        with resources.as_file(resources.files(__package__) / "lite.safetensors") as path:
            return lwl_lite(path, **sizes)
    features = backbone("efficientnet_lite0", "default" if weights == "imagenet" else None)
    fold_norms(features)
    network = LWLLite(features, **sizes)
    if weights not in (None, "imagenet"):
        fit(network, read_weights(weights), str(weights))
    return network.eval()
