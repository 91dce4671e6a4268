"""The command `train lwl`: its options, and the training that they describe."""

import argparse
from dataclasses import dataclass

import torch

from innerloop.errors import InputError
from innerloop_vos.configuration.arguments import add_options, described, read_fields
from innerloop_vos.lwl.builders import lwl_resnet50
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
from innerloop_vos.weight_files import fit, read_weights


@dataclass(frozen=True)
class NetworkOptions:
    """Options that say which network a training starts from."""

    init: str | None = described(None, "weights of LWL to start from", metavar="FILE")
    backbone_weights: str | None = described(
        None,
        "weights of a ResNet-50 in the style of Caffe, under torchvision's names, to start from "
        "in place of --init",
        metavar="FILE",
    )


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
        return load_lwl(options.init)
    if options.backbone_weights is None:
        raise InputError(
            "--backbone-weights: stage 1 trains on a backbone that it does not change; give the "
            "file of its weights, or --init"
        )
    network, path = lwl_resnet50(), options.backbone_weights
    backbone = network.feature_extractor
    fit(backbone, read_weights(path), path, backbone.unused)
    return network
