"""The command `train e-osvos`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torchvision.models import MobileNet_V2_Weights
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

import innerloop as il
from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import add_options, described, option, read_fields
from innerloop_vos.configuration.options import MOST
from innerloop_vos.eosvos.builders import (
    eosvos_lite,
    eosvos_mobilenet_v2,
    eosvos_resnet50,
    load_backbone,
)
from innerloop_vos.eosvos.finetuning import initial_rates
from innerloop_vos.eosvos.network import EOSVOS
from innerloop_vos.eosvos.options import EOSVOSOptions
from innerloop_vos.eosvos.phases import PHASES, EOSVOSTrainingSettings
from innerloop_vos.eosvos.training import EOSVOSTraining
from innerloop_vos.eosvos.weights import load_eosvos
from innerloop_vos.training.data import add_data_arguments, open_data
from innerloop_vos.training.options import (
    add_run_arguments,
    add_settings_arguments,
    read_settings,
    run_from_arguments,
)

_DOWNLOAD = "default"
_NORMS = {
    "lite": ("group", "none"),
    "mobilenet_v2": ("frozen", "group"),
    "resnet50": ("group", "frozen"),
}
"""By network, the default first."""


@dataclass(frozen=True)
class NetworkOptions:
    """Options that say which network a training starts from."""

    init: str | None = described(
        None,
        "weights of e-osvos to start from, instead of what follows; their learning rates are kept "
        "unless --per or --rate is given",
        metavar="FILE",
    )
    network: Literal["lite", "mobilenet_v2", "resnet50"] = described(
        "lite", "on EfficientNet-Lite0, made for one CPU core; another small one; or the paper's"
    )
    backbone_weights: str = described(
        _DOWNLOAD,
        "of the classification network, in torchvision's names, or of torchvision's Mask R-CNN; "
        "'default': torchvision's own, which it downloads: of MobileNetV2, or of the whole Mask "
        "R-CNN on ResNet-50; lite has those of ImageNet that come with the extra vos",
        metavar="FILE",
    )
    norm: Literal["group", "frozen", "none"] | None = described(
        None,
        "normalisation in the backbone: the paper's, which needs long training, or that of the "
        "pretrained weights, frozen (default: group for resnet50, frozen for mobilenet_v2); of "
        "lite, that in the feature pyramid and the mask head: group (default) or none",
    )
    mask_loss: Literal["lovasz", "cross-entropy"] = described("lovasz", "loss of the masks")
    frozen_layers: int = described(0, "first layers of the backbone that never learn")


def add_eosvos_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train e-osvos`.

    Args:
        parser: receives the options; `train_eosvos_from_arguments` takes what it parses.
    """
    parser.add_argument(
        "--phase",
        required=True,
        choices=PHASES,
        help="parent: the plain network; meta: initialisation and learning rates through "
        "fine-tuning; davis: the initialisation with the rates of --init",
    )
    add_run_arguments(parser, every=500)
    add_data_arguments(parser, year=2017)
    parser.add_argument(
        "--held-out-steps",
        type=int,
        default=EOSVOSOptions.steps,
        help="fine-tuning steps on their first frames (default: %(default)s)",
    )
    add_options(parser.add_argument_group("network"), NetworkOptions)
    add_settings_arguments(parser, *PHASES.values(), names=f"the phases {' | '.join(PHASES)}")


def train_eosvos_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train a phase as the command line asks.

    Args:
        arguments: what a parser with `add_eosvos_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, PHASES[arguments.phase])
    for name, least in (("every", 1), ("held_out_steps", 0), ("frozen_layers", 0)):
        given = getattr(arguments, name)
        if given < least:
            raise InputError(f"{option(name)} should be at least {least}, got {given}")
        if given > MOST:
            raise InputError(f"{option(name)} should be at most {MOST}, got {str(given)[:50]}")
    torch.manual_seed(settings.seed)  # the first weights
    length = 2 if settings.inner_steps else 1
    sampler, validation = open_data(arguments, length, settings.window, settings.paste)
    network, rates = _start(arguments, settings)
    options = EOSVOSOptions(steps=arguments.held_out_steps, online_interval=None)
    training = EOSVOSTraining(network, rates, sampler, validation, settings, options, device)
    return run_from_arguments(training, settings.iterations, arguments)


def _start(
    arguments: argparse.Namespace, settings: EOSVOSTrainingSettings
) -> tuple[EOSVOS, il.LearningRates]:
    if arguments.init is None:
        if arguments.phase == "davis":
            raise InputError("--init: phase davis needs the weights of phase meta")
        network, rates = _network(read_fields(arguments, NetworkOptions)), None
    else:
        network, rates = load_eosvos(arguments.init)
    fresh = arguments.per is not None or arguments.rate is not None
    if rates is None or fresh or (arguments.phase == "meta" and rates.per != settings.per):
        rates = initial_rates(network, per=settings.per, rate=settings.rate)  # type: ignore[arg-type]
    return network, rates


def _network(options: NetworkOptions) -> EOSVOS:
    file = None if options.backbone_weights == _DOWNLOAD else options.backbone_weights
    default, other = _NORMS[options.network]
    sizes: dict[str, Any] = {
        "norm": options.norm or default,
        "mask_loss": options.mask_loss,
        "frozen_layers": options.frozen_layers,
    }
    if sizes["norm"] not in (default, other):
        raise InputError(f"--norm: {options.network} has {default} or {other}, not {options.norm}")
    if options.network == "lite":
        if file:
            raise InputError("--backbone-weights: lite has those of ImageNet; leave it out")
        return eosvos_lite(weights="imagenet", **sizes)
    if options.network == "resnet50":
        coco = None if file else MaskRCNN_ResNet50_FPN_Weights.DEFAULT
        network = eosvos_resnet50(weights=coco, **sizes)
    else:
        imagenet = None if file else MobileNet_V2_Weights.DEFAULT
        network = eosvos_mobilenet_v2(weights=imagenet, **sizes)
    if file:
        load_backbone(network, file)
    return network
