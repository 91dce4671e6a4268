"""Feature extractors: the embedded small network, EfficientNet-Lite0, MobileNetV2 and ResNet-50."""

from importlib import resources
from pathlib import Path

from torch import Tensor
from torchvision.models import MobileNet_V2_Weights, ResNet50_Weights

from innerloop.errors import InputError
from innerloop_vos.backbones.base import Backbone, Level
from innerloop_vos.backbones.efficientnet_lite0 import EfficientNetLite0
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.backbones.pretrained import MobileNetV2, ResNet50
from innerloop_vos.backbones.small import SmallBackbone
from innerloop_vos.configuration.plugins import build
from innerloop_vos.weight_files import fit, read_weights

__all__ = [
    "BACKBONES",
    "Backbone",
    "EfficientNetLite0",
    "Level",
    "MobileNetV2",
    "ResNet50",
    "SmallBackbone",
    "backbone",
]

BACKBONES = {
    "small": "innerloop_vos.backbones.small:SmallBackbone",
    "efficientnet_lite0": "innerloop_vos.backbones.efficientnet_lite0:EfficientNetLite0",
    "mobilenet_v2": "innerloop_vos.backbones.pretrained:MobileNetV2",
    "resnet50": "innerloop_vos.backbones.pretrained:ResNet50",
}
"""The backbones that come with this package."""


def backbone(name: str, weights: str | Path | None = "default") -> Backbone:
    """Build a backbone, in evaluation mode.

    Args:
        name: `"small"`, `"efficientnet_lite0"`, `"mobilenet_v2"` or `"resnet50"`; the name of an
            entry point `innerloop_vos.backbones` of an installed package; or
            `package.module:Object`. The last two stand for a class or function without arguments
            that makes a `Backbone`.
        weights: `"default"` for the file that ships with the package (`small`), ImageNet weights
            that come with the extra `vos` (`efficientnet_lite0`) or that torchvision downloads
            (the next two), or what it is made with (others); the path of a `.safetensors` or a
            `.pth` file with torchvision's state-dict names (the next two), whose classifier is
            ignored, or with its own names (all others); None for random weights.

    Returns:
        The network, float32, on the CPU.

    Raises:
        InputError: the name is unknown, what it stands for makes no backbone, or the weights are
            missing, unreadable or do not fit.
    """
    network: Backbone = build("backbone", name, BACKBONES, Backbone)
    if weights == "default" and name not in BACKBONES:
        return network.eval()
    if weights is not None:
        state, source = _default(name) if weights == "default" else (read_weights(weights), weights)
        fit(network, state, str(source), network.unused)
    return network.eval()


def _default(name: str) -> tuple[dict[str, Tensor], str]:
    if name == "small":
        with resources.as_file(resources.files(__name__) / "small.safetensors") as path:
            return read_weights(path), str(path)
    if name == "efficientnet_lite0":
        return released_weights()
    choice = {
        "mobilenet_v2": MobileNet_V2_Weights.DEFAULT,
        "resnet50": ResNet50_Weights.DEFAULT,
    }[name]
    try:
        state = choice.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights: {choice.url} could not be downloaded ({error}); name a local file"
        ) from error
    return dict(state), choice.url
