"""The backbone of LWL-lite, its normalisations folded."""

from innerloop_vos.backbones import Backbone, backbone
from innerloop_vos.backbones.folding import fold_norms


def folded_backbone(weights: str | None) -> Backbone:
    """Build EfficientNet-Lite0 with its normalisations folded into its convolutions.

    Args:
        weights: "default" for those of ImageNet, None for random ones.
    """
    network = backbone("efficientnet_lite0", weights)
    fold_norms(network)
    return network
