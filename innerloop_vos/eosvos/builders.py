"""Builders of the e-OSVOS network, after the manner of torchvision's."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from innerloop.errors import InputError
from innerloop_vos.eosvos.names import current_names
from innerloop_vos.eosvos.network import EOSVOS
from innerloop_vos.weight_files import fit, fit_same, read_weights

_GROUPS = 32
_BODY = "backbone.body."


def eosvos_resnet50(
    *, weights: MaskRCNN_ResNet50_FPN_Weights | str | Path | None = None, **sizes: Any
) -> EOSVOS:
    """Build the network of the released system, on ResNet-50 with GroupNorm.

    Args:
        weights: torchvision's Mask R-CNN trained on COCO, which it downloads; or a file with the
            tensors of an e-OSVOS network. Default: random weights.
        sizes: of `EOSVOS`, with the released system's as defaults.

    Returns:
        The network, float32, on the CPU. All its parameters are trainable.

    Raises:
        InputError: the file is missing, unreadable or does not fit.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=_group_norm, trainable_layers=5
    )
    return _load(EOSVOS(backbone, builder="eosvos_resnet50", **sizes), weights)


_SMALL = {
    "image_size": (240, 432),
    "anchors": (16, 32, 64, 128, 256),
    "box_features": 256,
    "mask_features": 64,
    "sampled_boxes": 32,
    "proposals": (300, 300),
}


def eosvos_mobilenet_v2(
    *,
    weights: MobileNet_V2_Weights | str | Path | None = None,
    channels: int = 64,
    norm: Literal["group", "frozen"] = "group",
    **sizes: Any,
) -> EOSVOS:
    """Build a network that is small enough to train on a CPU, on MobileNetV2.

    Args:
        weights: torchvision's MobileNetV2 trained on ImageNet, which it downloads; or a file with
            the tensors of a whole network. Default: random weights.
        channels: width of the feature pyramid. Default 64.
        norm: normalisation in the backbone. "group" (the default) is the paper's and needs long
            training; "frozen" keeps the statistics of pretrained weights, and so what they know.
        sizes: of `EOSVOS`, smaller by default: images of 240x432 pixels.

    Returns:
        The network, float32, on the CPU. All its parameters are trainable.

    Raises:
        InputError: the file is missing, unreadable or does not fit.
    """
    features = mobilenet_v2(norm_layer=_NORMS[norm]).features
    # The last blocks of strides 4, 8, 16 and 32.
    blocks = {"3": 24, "6": 32, "13": 96, "17": 320}
    names = {block: str(level) for level, block in enumerate(blocks)}
    backbone = BackboneWithFPN(features, names, list(blocks.values()), channels)
    network = EOSVOS(backbone, builder="eosvos_mobilenet_v2", **{**_SMALL, **sizes})
    network.sizes |= {"channels": channels, "norm": norm}
    return _load(network, weights)


def _group_norm(channels: int) -> nn.GroupNorm:
    # 32 groups, or fewer where a group would have less than two channels or they do not divide.
    return nn.GroupNorm(math.gcd(_GROUPS, channels // 2), channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {"group": _group_norm, "frozen": FrozenBatchNorm2d}


def _load(network: EOSVOS, weights: Any) -> EOSVOS:
    if isinstance(weights, str | Path):
        fit(network, read_weights(weights), str(weights))
    elif weights is not None:
        state = weights.get_state_dict(progress=True, check_hash=True)
        if isinstance(weights, MobileNet_V2_Weights):
            state = _in_backbone(state)
        start_from(network, state)
    return network


def load_backbone(network: EOSVOS, path: str | Path) -> None:
    """Start the backbone from the weights of torchvision's classification network.

    Args:
        network: receives them.
        path: the file.

    Raises:
        InputError: it is missing, unreadable or does not fit.
    """
    left = start_from(network, _in_backbone(read_weights(path)))
    if lacking := [name for name in left if name.startswith(_BODY)]:
        raise InputError(
            f"weights: {path} lacks {len(lacking)} tensors of the backbone of {network.builder}, "
            f"such as {lacking[0].removeprefix(_BODY)}"
        )


def _in_backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_BODY + name.removeprefix("features."): value for name, value in state.items()}


def start_from(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Copy the tensors of another network that fit by name and shape.

    Of its batch normalisation that is weight and bias; group normalisation has no statistics.

    Args:
        network: receives them.
        state: tensors by name, of any version of torchvision.

    Returns:
        The names of the network's tensors that stay as they were.
    """
    return fit_same(network, current_names(state))
