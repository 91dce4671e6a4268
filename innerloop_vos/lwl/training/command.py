"""The command `train lwl`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass
from typing import Any, Literal

import torch

from innerloop.errors import InputError
from innerloop_vos.backbones.efficientnet_weights import released_weights
from innerloop_vos.backbones.resnet_files import read_resnet50
from innerloop_vos.configuration.arguments import add_options, described, option, read_fields
from innerloop_vos.lwl.builders import lwl_efficientnet_lite0, lwl_resnet50
from innerloop_vos.lwl.model.network import LWL
from innerloop_vos.lwl.training.end_to_end import LWLTraining
from innerloop_vos.lwl.training.stages import STAGES
from innerloop_vos.lwl.weights import load_lwl
from innerloop_vos.training.data import add_data_arguments, open_data
from innerloop_vos.training.options import (
    add_run_arguments,
    add_settings_arguments,
    read_settings,
    run_from_arguments,
)
from innerloop_vos.training.settings import require
from innerloop_vos.weight_files import fit
from innerloop_vos.weight_files.sizes import WIDTH

_URL = "https://download.pytorch.org/models/maskrcnn/e2e_mask_rcnn_R_50_FPN_1x.pth"
"""maskrcnn-benchmark's, which the paper starts from."""


@dataclass(frozen=True)
class NetworkOptions:
    """Options that say which network a training starts from.

    Raises:
        InputError: the number of outputs is out of its range.
    """

    init: str | None = described(
        None, "weights of LWL to start from, instead of what follows", metavar="FILE"
    )
    network: Literal["resnet50", "efficientnet_lite0"] = described(
        "resnet50",
        "backbone of a network that is new: the paper's, or a small one whose weights come with "
        "the extra vos",
    )
    backbone_weights: str | None = described(
        None,
        "weights of a ResNet-50 to start from in place of --init: of torchvision's or "
        "maskrcnn-benchmark's Mask R-CNN, or of a ResNet-50 alone under torchvision's names, with "
        "--backbone-style",
        metavar="FILE",
    )
    backbone_style: Literal["caffe", "torchvision"] | None = described(
        None,
        "how that of a ResNet-50 alone is run: with the stride in the first 1x1 convolution, on "
        "BGR in 0..255, or with the stride in the 3x3 convolution, on normalised RGB",
    )
    labels: Literal["learned", "mask"] | None = described(
        None,
        "what the target model is told to predict: an encoding of the mask that is learned (the "
        "default), or the mask itself, at the features' stride; this and the next two are those of "
        "--init, where it is given",
    )
    label_weights: Literal["learned", "one"] | None = described(
        None,
        "what the errors of its predictions weigh: what is learned (the default), or all the same; "
        "with --labels mask always one",
    )
    outputs: int | None = described(
        None, "channels that it predicts (default: 16; with --labels mask always 1)"
    )

    def __post_init__(self) -> None:
        require(self, "outputs", "from 1 to 16384", lambda count: count is None or WIDTH(count))

    @property
    def sizes(self) -> dict[str, Any]:
        """Those of the network's sizes that are given."""
        given = {name: getattr(self, name) for name in ("labels", "label_weights", "outputs")}
        return {name: value for name, value in given.items() if value is not None}


def add_lwl_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `innerloop-vos train lwl`.

    Args:
        parser: receives the options; `train_lwl_from_arguments` takes what it parses.
    """
    parser.add_argument(
        "--stage",
        required=True,
        choices=STAGES,
        help="1: all but the backbone; 2: all, from --init; box: the box encoder, from --init",
    )
    add_run_arguments(parser, every=1000)
    add_data_arguments(parser, year=2017, without=["ratio"])
    add_options(parser.add_argument_group("network"), NetworkOptions)
    add_settings_arguments(parser, *STAGES.values(), names=f"stages {' | '.join(STAGES)}")


def train_lwl_from_arguments(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train a stage as the command line asks.

    Args:
        arguments: what a parser with `add_lwl_arguments` parsed.
        device: where to train.

    Returns:
        True if all iterations are done, False if the training was interrupted.

    Raises:
        InputError: the data, the weights, a setting or the output folder cannot be used.
    """
    settings = read_settings(arguments, STAGES[arguments.stage])
    options = read_fields(arguments, NetworkOptions)
    if options.init is None and arguments.stage != "1":
        raise InputError(f"--init: stage {arguments.stage} needs the weights of the one before")
    torch.manual_seed(settings.seed)  # the first weights
    length = 1 + settings.test_frames
    sampler, validation = open_data(
        arguments,
        length,
        settings.window,
        settings.paste,
        replacement=settings.replacement,
        ratio=settings.ratio,
    )
    network = _network(options)
    if arguments.stage == "box" and network.box_label_encoder is None:
        network.add_box_encoder()
    training = LWLTraining(network, sampler, validation, settings, device)
    return run_from_arguments(training, settings.iterations, arguments)


def _network(options: NetworkOptions) -> LWL:
    if options.init is not None and options.backbone_weights is not None:
        raise InputError("--backbone-weights: the file of --init has a backbone; give one of both")
    if options.init is not None:
        return _started(options.init, options.sizes)
    implied = {"label_weights": "one", "outputs": 1} if options.labels == "mask" else {}
    sizes = implied | options.sizes
    if options.network == "efficientnet_lite0":
        return _lite(options, sizes)
    if options.backbone_weights is None:
        raise InputError(
            "--backbone-weights: stage 1 trains on a backbone that it does not change; give the "
            f"file of its weights, such as {_URL} (the paper's Mask R-CNN), or --init"
        )
    path = options.backbone_weights
    state, style = read_resnet50(path)
    if style is not None and options.backbone_style not in (None, style):
        raise InputError(f"--backbone-style: {path} is in the style of {style} by its names")
    style = style or options.backbone_style
    if style is None:
        raise InputError(
            f"--backbone-style: {path} is of a ResNet-50 alone, whose names do not say how it is "
            "run; give caffe or, for torchvision's files, torchvision"
        )
    network = lwl_resnet50(backbone=style, **sizes)
    backbone = network.feature_extractor
    fit(backbone, state, path, backbone.unused)
    return network


def _lite(options: NetworkOptions, sizes: dict[str, Any]) -> LWL:
    if options.backbone_weights or options.backbone_style:
        raise InputError(
            "--backbone-weights, --backbone-style: are of resnet50, not of --network "
            "efficientnet_lite0"
        )
    network = lwl_efficientnet_lite0(**sizes)
    fit(network.feature_extractor, *released_weights())
    return network


def _started(path: str, sizes: dict[str, Any]) -> LWL:
    """The network in a file, which should have these sizes."""
    network = load_lwl(path)
    for name, value in sizes.items():
        if value != (there := network.sizes[name]):
            raise InputError(f"{option(name)}: {value}, but the network in {path} has {there}")
    return network
