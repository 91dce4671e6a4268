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
from innerloop_vos.backbones.efficientnet_lite0 import COLOURS, EfficientNetLite0
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.backbones.folding import fold_norms
from innerloop_vos.backbones.resnet_files import read_resnet50, with_epsilon
from innerloop_vos.eosvos.names import current_names
from innerloop_vos.eosvos.network import EOSVOS
from innerloop_vos.weight_files import fit, fit_same, read_weights

_GROUPS = 32
_BODY = "backbone.body."


def eosvos_resnet50(
    *,
    weights: MaskRCNN_ResNet50_FPN_Weights | str | Path | None = None,
    norm: Literal["group", "frozen"] = "group",
    **sizes: Any,
) -> EOSVOS:
    """Build the network of the released system, on ResNet-50.

    Args:
        weights: torchvision's Mask R-CNN trained on COCO, which it downloads; or a file with the
            tensors of an e-OSVOS network. Default: random weights.
        norm: as in `eosvos_mobilenet_v2`; the released system has "group".
        sizes: of `EOSVOS`, with the released system's as defaults.

    Returns:
        The network, float32, on the CPU. All its parameters are trainable.

    Raises:
        InputError: the file is missing, unreadable or does not fit.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=_NORMS[norm], trainable_layers=5
    )
    network = EOSVOS(backbone, builder="eosvos_resnet50", **sizes)
    if norm != "group":
        network.sizes["norm"] = norm
    return _load(network, weights)


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


_LITE: dict[str, Any] = {
    "image_size": (288, 512),
    "anchors": (16, 32, 64, 128, 256),
    "box_features": 256,
    "mask_features": 96,
    "mask_levels": 2,
    "sampled_boxes": 32,
    "proposals": (300, 300),
}


def eosvos_lite(
    *,
    weights: str | Path | None = None,
    channels: int = 96,
    norm: Literal["group", "none"] = "group",
    **sizes: Any,
) -> EOSVOS:
    """Build a network for one CPU core, on EfficientNet-Lite0.

    The normalisation of the backbone is folded into its convolutions. Depthwise convolutions are
    frozen: they hold few weights, and their derivatives are slow on CPUs.

    Args:
        weights: "imagenet": random heads on a backbone with weights of ImageNet; or a file with
            the tensors of a whole network. Default: random weights.
        channels: width of the feature pyramid. Default 96.
        norm: normalisation in the feature pyramid and the mask head. Default "group".
        sizes: of `EOSVOS`, smaller by default: images of 288x512 pixels.

    Returns:
        The network, float32, on the CPU. All other parameters are trainable.

    Raises:
        InputError: the file, or the package with the backbone's weights, is missing, unreadable or
            does not fit.
    """
    imagenet = EfficientNetLite0(stride=32)
    if weights == "imagenet":
        fit(imagenet, *released_weights())
    fold_norms(imagenet)
    for module in imagenet.modules():
        if isinstance(module, nn.Conv2d):  # whose biases are frozen when they come from folding
            module.requires_grad_(module.groups == 1)
    layers = nn.Sequential(imagenet.stem, *imagenet.stages)
    # The last layers of strides 4, 8, 16 and 32.
    names = {layer: str(level) for level, layer in enumerate("2357")}
    widths = [level.channels for level in imagenet.levels.values()]
    norm_layer = {"group": _group_norm, "none": None}[norm]
    backbone = BackboneWithFPN(layers, names, widths, channels, norm_layer=norm_layer)
    network = EOSVOS(
        backbone,
        mask_norm=norm_layer,
        colours=COLOURS,
        builder="eosvos_lite",
        **{**_LITE, **sizes},
    )
    network.sizes |= {"channels": channels, "norm": norm}
    return network if weights == "imagenet" else _load(network, weights)


def _group_norm(channels: int) -> nn.GroupNorm:
    # 32 groups, or fewer where a group would have less than two channels or they do not divide.
    return nn.GroupNorm(math.gcd(_GROUPS, channels // 2), channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {"group": _group_norm, "frozen": FrozenBatchNorm2d}


def _load(network: EOSVOS, weights: Any) -> EOSVOS:
    if isinstance(weights, str | Path):
        fit(network, read_weights(weights), str(weights))
    elif weights is not None:
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"weights: {weights.url} could not be downloaded ({error}); fetch that file and "
                "name it (--backbone-weights)"
            ) from error
        if isinstance(weights, MobileNet_V2_Weights):
            state = _in_backbone(state)
        else:
            state = with_epsilon(state)
        start_from(network, state)
    return network


def load_backbone(network: EOSVOS, path: str | Path) -> None:
    """Start the backbone from the weights of torchvision's classification network.

    Args:
        network: receives them.
        path: the file; for ResNet-50, that of torchvision's Mask R-CNN too, of whose other parts
            all is taken that fits.

    Raises:
        InputError: it is missing, unreadable or does not fit.
    """
    if read_resnet50(path)[1] == "caffe":
        raise InputError(
            f"weights: {path} is of maskrcnn-benchmark, which has the strides of ResNet-50 "
            "elsewhere and takes other colours; give a file of torchvision"
        )
    state = read_weights(path)
    if any(name.startswith(_BODY) for name in state):
        state = with_epsilon(state)
    else:
        state = _in_backbone(state)
    left = start_from(network, state)
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
