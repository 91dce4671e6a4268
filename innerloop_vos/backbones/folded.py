"""EfficientNet-Lite0 as the networks that are trained on top of it have it."""

from torch import nn

from innerloop_vos.backbones import Backbone, backbone
from innerloop_vos.backbones.folding import fold_norms

_EARLY = 2
"""First stages, up to stride 4, which are not trained."""


def folded_backbone(weights: str | None) -> Backbone:
    """Build EfficientNet-Lite0 with its normalisations folded into its convolutions.

    Args:
        weights: "default" for those of ImageNet, None for random ones.
    """
    network = backbone("efficientnet_lite0", weights)
    fold_norms(network)
    return network


def tuned_convolutions(network: nn.Module) -> list[nn.Module]:
    """The pointwise convolutions of EfficientNet-Lite0 beyond stride 4.

    They hold nearly all the weights. Depthwise ones have slow derivatives on CPUs, and what comes
    before is hardly peculiar to a task.
    """
    deep: list[nn.Module] = list(network.get_submodule("stages").children())[_EARLY:]
    convolutions = [m for stage in deep for m in stage.modules() if isinstance(m, nn.Conv2d)]
    return [conv for conv in convolutions if conv.groups == 1]
