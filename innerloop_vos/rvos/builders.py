"""Builders of RVOS networks, in torchvision's manner, and their weight files."""

from pathlib import Path
from typing import Any

from innerloop_vos.backbones.family import Family
from innerloop_vos.rvos.model.decoder import RECURRENCES
from innerloop_vos.rvos.model.network import RVOS
from innerloop_vos.weight_files.sizes import WIDTH, one_of, several

FAMILY = Family(
    method="RVOS",
    package=__package__,
    command="innerloop-vos train rvos",
    network=RVOS,
    sizes={"widths": several(4, WIDTH), "recurrence": one_of(*RECURRENCES)},
    stride=32,
)


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
        InputError: the file, or the package with the backbone's weights, is missing,
            unreadable or does not fit.
    """
    return FAMILY.build(weights, **sizes)


save_rvos = FAMILY.save
"""Write a network that `rvos` made to a file; see `Family.save`."""
