"""EfficientNet-Lite0 with its normalisations folded, and what of it is trained further."""

from typing import Literal

from torch import nn

from innerloop_vos.backbones.efficientnet_lite0 import EfficientNetLite0
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.weight_files import fit

_EARLY = 2
"""First stages, up to stride 4, which are not trained."""


def folded_backbone(
    weights: Literal["default"] | None, stride: Literal[16, 32] = 16
) -> EfficientNetLite0:
    """Build EfficientNet-Lite0 with its normalisations folded into its convolutions.

    Args:
        weights: "default" for those of ImageNet, None for random ones.
        stride: of the last level. Default 16.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        InputError: the package with the weights is missing, or its file is not the released one.
    """
    network = EfficientNetLite0(stride)
    if weights == "default":
        fit(network, *released_weights())
    fold_norms(network)
    return network


def tuned_convolutions(backbone: nn.Module) -> list[nn.Module]:
    """Return the pointwise convolutions beyond stride 4.

    They hold nearly all the weights. Depthwise ones have slow derivatives on CPUs, and what comes
    before is hardly peculiar to a task.

    Args:
        backbone: of `folded_backbone`.
    """
    deep: list[nn.Module] = list(backbone.get_submodule("stages").children())[_EARLY:]
    convolutions = [m for stage in deep for m in stage.modules() if isinstance(m, nn.Conv2d)]
    return [conv for conv in convolutions if conv.groups == 1]
