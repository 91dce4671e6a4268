"""Feature extractors: the embedded small network and torchvision's MobileNetV2 and ResNet-50."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from torch import Tensor
from torchvision.models import MobileNet_V2_Weights, ResNet50_Weights

from innerloop.errors import InputError
from innerloop_vos.backbones.base import Backbone, Level
from innerloop_vos.backbones.pretrained import MobileNetV2, ResNet50
from innerloop_vos.backbones.small import SmallBackbone
from innerloop_vos.weight_files import fit, read_weights

__all__ = ["BACKBONES", "Backbone", "Level", "MobileNetV2", "ResNet50", "SmallBackbone", "backbone"]

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "small": SmallBackbone,
    "mobilenet_v2": MobileNetV2,
    "resnet50": ResNet50,
}


def backbone(name: str, weights: str | Path | None = "default") -> Backbone:
    """Build a backbone, in evaluation mode.

    Args:
        name: ``"small"``, ``"mobilenet_v2"`` or ``"resnet50"``.
        weights: ``"default"`` for the file that ships with the package (``small``) or
            torchvision's ImageNet weights, which it downloads (the others); the path of a
            ``.safetensors`` or a ``.pth`` file with torchvision's state-dict names (or ours, for
            ``small``), whose classifier is ignored; None for random weights.

    Returns:
        The network, float32, on the CPU.

    Raises:
        InputError: The name is unknown, or the weights are missing, unreadable or do not fit.
    """
    if name not in BACKBONES:
        raise InputError(f"backbone: {name!r} is unknown; choose one of {', '.join(BACKBONES)}")
    network = BACKBONES[name]()
    if weights is not None:
        state, source = _default(name) if weights == "default" else (read_weights(weights), weights)
        fit(network, state, str(source), network.unused)
    return network.eval()


def _default(name: str) -> tuple[dict[str, Tensor], str]:
    if name == "small":
        with resources.as_file(resources.files(__name__) / "small.safetensors") as path:
            return read_weights(path), str(path)
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
