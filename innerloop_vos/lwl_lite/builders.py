"""Builders of LWL-lite networks, in torchvision's manner, and their weight files."""

from pathlib import Path
from typing import Any

from innerloop_vos.backbones.family import Family
from innerloop_vos.lwl_lite.model.network import LWLLite
from innerloop_vos.weight_files.sizes import WIDTH

FAMILY = Family(
    method="LWL-lite",
    package=__package__,
    command="innerloop-vos train lwl-lite",
    network=LWLLite,
    sizes={"features": WIDTH, "outputs": WIDTH},
)


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
        InputError: the file, or the package with the backbone's weights, is missing,
            unreadable or does not fit.
    """
    return FAMILY.build(weights, **sizes)


save_lwl_lite = FAMILY.save
"""Write a network that `lwl_lite` made to a file; see `Family.save`."""
