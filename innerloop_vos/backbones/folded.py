"""The backbone of the networks that are trained here, its normalisations folded."""

from typing import Literal

from torch import Tensor, nn

from innerloop_vos.backbones import Backbone, EfficientNetLite0
from innerloop_vos.backbones.depthwise import speed_up_depthwise
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.weight_files import fit

Stride = Literal[16, 32]

_EARLY = 2
"""First stages, up to stride 4, which are not trained."""


def folded_backbone(weights: Literal["default"] | None, stride: Stride = 16) -> Backbone:
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
    speed_up_depthwise(network)
    return network


def released_tensors() -> dict[str, Tensor]:
    """The tensors of the backbone as the package has it, named as those of a `backbone`.

    They are the same whatever its stride.
    """
    released = folded_backbone("default").state_dict()
    return {f"backbone.{name}": tensor for name, tensor in released.items()}


def tuned_layers(network: nn.Module) -> list[nn.Module]:
    """The pointwise convolutions of such a backbone beyond stride 4.

    They hold nearly all the weights. The weights of depthwise ones have slow derivatives on CPUs,
    and what comes before is hardly peculiar to a task.
    """
    deep: list[nn.Module] = list(network.get_submodule("stages").children())[_EARLY:]
    convolutions = [m for stage in deep for m in stage.modules() if isinstance(m, nn.Conv2d)]
    return [conv for conv in convolutions if conv.groups == 1]
