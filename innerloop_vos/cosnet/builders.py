"""Builders of COSNet networks, in torchvision's manner, and their weight files."""

from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop_vos.backbones.family import Family
from innerloop_vos.cosnet.model.network import FORMS, COSNet
from innerloop_vos.weight_files.sizes import one_of, whole

FAMILY = Family(
    method="COSNet",
    package=__package__,
    command="innerloop-vos train cosnet",
    network=COSNet,
    sizes={"co_attention": one_of(*FORMS), "channels": whole(2, 2**12)},
)


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
    return FAMILY.build(weights, **sizes)


save_cosnet = FAMILY.save
"""Write a network that `cosnet` made to a file; see `Family.save`."""
