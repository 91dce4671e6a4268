"""Builders of A-GAME networks, in torchvision's manner, and their weight files."""

from pathlib import Path
from typing import Any

from innerloop_vos.agame.model.network import AGAME
from innerloop_vos.backbones.family import Family
from innerloop_vos.weight_files.sizes import WIDTH, one_of

FAMILY = Family(
    method="A-GAME",
    package=__package__,
    command="innerloop-vos train a-game",
    network=AGAME,
    sizes={"features": WIDTH, "components": one_of(0, 2, 4), "propagation": one_of(False, True)},
)


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
        InputError: the file, or the package with the backbone's weights, is missing,
            unreadable or does not fit.
    """
    return FAMILY.build(weights, **sizes)


save_agame = FAMILY.save
"""Write a network that `agame` made to a file; see `Family.save`."""
